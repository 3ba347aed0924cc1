/** Checks the test framework and the guest itself with the original as the program, where it is there. */
import assert from "node:assert/strict";
import { BOOT_TIMEOUT_MS } from "@tests/framework/deadline.ts";
import { Guest, guestFiles, kernelCommandLine, runInGuest } from "@tests/framework/guest.ts";
import { TempDisk } from "@tests/framework/images.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { testWith } from "@tests/framework/programs.ts";
import { Pty } from "@tests/framework/pty.ts";
import { Vm } from "@tests/framework/vm.ts";

const NEEDS = { kvm: true, reference: true };

testWith(NEEDS, "Vm starts the original, talks to its API and stops it", async () => {
  await using vm = await Vm.start({ program: "reference" });
  assert.match((await vm.api.get("vmm.ping")).body, /"version"/);
  assert.equal((await vm.api.get("vm.info")).status, 404);
  assert.ok((await vm.threads()).includes("http-server"));
  assert.ok((await vm.descriptors()).size > 3);
  assert.ok(await vm.memoryKib("Pss") > 0);
  assert.deepEqual(await vm.stop(), { code: 0, signal: null });
});

testWith(NEEDS, "Vm.start() reports the end of a program that did not start", async () => {
  await assert.rejects(
    Vm.start({ program: "reference", args: ["--no-such-option"] }),
    /Ended with code 2: .*no-such-option/s,
  );
});

testWith(NEEDS, "runInGuest() returns a script's output and exit code", async () => {
  await using disk = await TempDisk.pattern(64 * 512);
  const { output, code } = await runInGuest("sha256sum /dev/vda | cut -d' ' -f1; exit 7\n", {
    program: "reference",
    args: ["--disk", `path=${disk.path},image_type=raw,readonly=on`],
  });
  assert.deepEqual([output, code], [`${await disk.sha256()}\n`, 7]);
});

testWith(
  { ...NEEDS, root: true, commands: ["ip"] },
  "a guest in a namespace has a tap and neighbours",
  async () => {
    await using network = await NetworkNamespace.create();
    await network.addTap("tap0", { address: "192.168.77.1/24" });
    await using guest = await Guest.start({
      program: "reference",
      netns: network.name,
      args: ["--net", "tap=tap0,mac=52:54:00:12:34:56"],
      script: "ifconfig eth0 192.168.77.2 up; echo ready; cat /sys/class/net/eth0/address; sleep 3600\n",
    });
    await guest.console.waitFor("52:54:00:12:34:56\n", { timeoutMs: BOOT_TIMEOUT_MS });
    assert.match(await network.exec("ping", "-c", "2", "-W", "30", "192.168.77.2"), / 0% packet loss/);
  },
);

testWith(NEEDS, "a shell answers on the serial pty, and the power button ends the guest", async () => {
  const { vmlinux, initramfs } = await guestFiles();
  await using vm = await Vm.start({ program: "reference", events: true });
  await vm.api.mustPut("vm.create", {
    payload: { kernel: vmlinux, initramfs, cmdline: kernelCommandLine("ttyS0") },
    memory: { size: 128 << 20 },
    serial: { mode: "Pty" },
    console: { mode: "Off" },
  });
  await vm.api.mustPut("vm.boot");
  await vm.events.waitFor("vm/booted");
  const { config } = await vm.api.info();
  await using pty = await Pty.open(config.serial.file);
  await pty.expect("nephos:", BOOT_TIMEOUT_MS);
  await pty.send("echo $((6 * 7))\n");
  await pty.expect("\n42\n", BOOT_TIMEOUT_MS);
  await vm.api.mustPut("vm.power-button");
  await pty.expect("NEPHOS-POWER-BUTTON", BOOT_TIMEOUT_MS);
  assert.equal((await vm.waitForExit(BOOT_TIMEOUT_MS)).code, 0);
});

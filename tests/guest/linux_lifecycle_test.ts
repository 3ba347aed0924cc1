/** Consoles, pause, power button and reboot of a Linux guest. */
import assert from "node:assert/strict";
import { BOOT_TIMEOUT_MS } from "@tests/framework/deadline.ts";
import { TempDisk } from "@tests/framework/images.ts";
import { Pty } from "@tests/framework/pty.ts";
import { LinuxGuest } from "./linux_guest.ts";
import { linuxTest, startGuest } from "./subject.ts";

const MIB = 2 ** 20;
const PROMPT = /nephos:.*[#$] /;

linuxTest(
  "shells on the serial port and on hvc0 at once; pause; the power button ends the guest",
  async () => {
    await using guest = await LinuxGuest.boot({
      console: "ttyS0",
      cmdline: "console=hvc0",
      config: { serial: { mode: "Pty" }, console: { mode: "Pty" }, cpus: { boot_vcpus: 2, max_vcpus: 2 } },
    });
    const { vm, pty: serial } = guest;
    await using hvc = await Pty.open((await vm.api.info()).config.console.file);
    const lines = (first: number, last: number) =>
      Array.from({ length: last - first + 1 }, (_, index) => `${first + index}\n`).join("");

    // A prompt on each; from then on no echo and no prompt, so that only what commands write comes back.
    for (const [pty, name] of [[serial, "ttyS0"], [hvc, "hvc0"]] as const) {
      await pty.expect(PROMPT, BOOT_TIMEOUT_MS);
      await pty.send("PS1=; stty -echo; tty\n");
      await pty.expect(`/dev/${name}\n`, BOOT_TIMEOUT_MS);
    }

    await serial.send(`echo ${"x".repeat(600)}; seq 200; grep ttyS0 /proc/interrupts; echo end\n`);
    const onSerial = await serial.expect("end\n", BOOT_TIMEOUT_MS);
    assert.ok(onSerial.startsWith(`${"x".repeat(600)}\n${lines(1, 200)}`), onSerial);
    assert.match(onSerial, /IO-APIC +4-edge +ttyS0/);

    // Both at once; hvc0 is paused in the middle.
    await serial.send("seq 100; echo end\n");
    await hvc.send("seq 3000; echo end\n");
    const before = await hvc.expect("\n500\n", BOOT_TIMEOUT_MS);
    await vm.api.mustPut("vm.pause");
    assert.equal((await vm.api.info()).state, "Paused");
    await vm.api.mustPut("vm.resume");
    const after = await hvc.expect("end\n", BOOT_TIMEOUT_MS);
    assert.equal(before + after, `${lines(1, 3000)}end\n`);
    assert.equal(await serial.expect("end\n", BOOT_TIMEOUT_MS), `${lines(1, 100)}end\n`);

    await vm.api.mustPut("vm.power-button");
    await serial.expect("NEPHOS-POWER-BUTTON", BOOT_TIMEOUT_MS);
    assert.deepEqual(await vm.waitForExit(BOOT_TIMEOUT_MS), { code: 0, signal: null });
    assert.deepEqual((await vm.events.names()).slice(-3), ["vm/shutdown", "vm/deleted", "vmm/shutdown"]);
  },
);

linuxTest("two vCPUs, 64 MiB, by command line: a guest that reboots itself comes up again", async () => {
  // What the first boot writes to the disk tells the second one that it is the second: memory does not outlive a reset.
  await using disk = await TempDisk.withContent("nothing\n", MIB); // the shell reads bytes up to a line feed
  await using guest = await startGuest({
    events: true,
    cpus: "boot=2",
    memory: "size=64M",
    cmdline: 'some.parameter="with blanks"',
    files: { "added": "by the test\n" },
    args: ["--disk", `path=${disk.path},image_type=raw`],
    script: `
        read -r found </dev/vda
        if [ "$found" != first ]; then
          echo first >/dev/vda; sync; reboot -f; sleep 3600
        fi
        { nproc; cat /added /proc/cmdline; grep ^MemTotal: /proc/meminfo; echo end; } >/dev/vda; sync`,
  });
  await guest.vm.events.waitFor("vm/rebooted", { timeoutMs: BOOT_TIMEOUT_MS });
  assert.deepEqual(await guest.vm.waitForExit(BOOT_TIMEOUT_MS), { code: 0, signal: null });
  const text = new TextDecoder().decode(await disk.read(0, 4096));
  const [cpus, file, cmdline, memory, end] = text.split("\n");
  assert.deepEqual([cpus, file, end], ["2", "by the test", "end"], text);
  assert.match(cmdline, /console=hvc0 quiet panic=-1 nephos\.script=test some\.parameter="with blanks"$/);
  const totalKib = Number(/\d+/.exec(memory)![0]);
  assert.ok(totalKib > 40 * 1024 && totalKib <= 64 * 1024, memory);
  const names = (await guest.vm.events.names()).filter((name) => !name.startsWith("virtio-device/"));
  assert.deepEqual(names, [
    ...["vmm/starting", "vm/booting", "vm/booted", "vm/rebooting", "vm/rebooted"],
    ...["vm/shutdown", "vm/deleted", "vmm/shutdown"],
  ]);
});

/** Consoles, pause, power button and reboot of a Linux guest. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { BOOT_TIMEOUT_MS } from "@tests/framework/deadline.ts";
import { Pty } from "@tests/framework/pty.ts";
import { LinuxGuest } from "./linux_guest.ts";
import { linuxTest, startGuest } from "./subject.ts";

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

linuxTest("a guest that reboots itself comes up again in the same process", async () => {
  // The first boot is told from the second by a disk: memory does not outlive a reset.
  const directory = await Deno.makeTempDir({ prefix: "nephos-reboot-" });
  try {
    const disk = join(directory, "disk");
    await Deno.writeFile(disk, new Uint8Array(4096));
    await using guest = await startGuest({
      events: true,
      args: ["--disk", `path=${disk},image_type=raw`],
      script: `
        if [ "$(head -c 6 /dev/vda)" != second ]; then
          echo second >/dev/vda; sync; echo rebooting; reboot -f; sleep 3600
        fi
        echo here again`,
    });
    await guest.vm.events.waitFor("vm/rebooted", { timeoutMs: BOOT_TIMEOUT_MS });
    assert.deepEqual(await guest.vm.waitForExit(BOOT_TIMEOUT_MS), { code: 0, signal: null });
    await guest.console.done;
    // The console's file begins anew with each boot: what is left of the first may be at its start or not there.
    assert.match(guest.console.text, /here again\nNEPHOS-SCRIPT-END rc=0\n$/);
    const names = (await guest.vm.events.names()).filter((name) => !name.startsWith("virtio-device/"));
    assert.deepEqual(names, [
      ...["vmm/starting", "vm/booting", "vm/booted", "vm/rebooting", "vm/rebooted"],
      ...["vm/shutdown", "vm/deleted", "vmm/shutdown"],
    ]);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

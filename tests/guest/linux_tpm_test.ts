/** A Linux guest with a TPM, which is a real swtpm. */
import assert from "node:assert/strict";
import { Daemon } from "@tests/framework/daemons.ts";
import { LinuxGuest, sections } from "./linux_guest.ts";
import { linuxTest } from "./subject.ts";

linuxTest("a Linux guest finds its TPM, reads measurements and talks to it", async () => {
  const directory = await Deno.makeTempDir({ prefix: "nephos-tpm-" });
  try {
    await using swtpm = await Daemon.tpm(directory);
    await using guest = await LinuxGuest.boot({
      config: { tpm: { socket: swtpm.socket } },
      script: `
        section tpm; cat /sys/class/tpm/tpm0/tpm_version_major
        cat /sys/class/tpm/tpm0/pcr-sha256/0 /sys/class/tpm/tpm0/pcr-sha256/17
        section random; printf '\\200\\001\\000\\000\\000\\014\\000\\000\\001\\173\\000\\010' > /tmp/command
        exec 3<>/dev/tpm0; cat /tmp/command >&3; head -c 20 <&3 | wc -c`,
    });
    const { text, code } = await guest.end();
    const shown = sections(text);
    assert.equal(shown.tpm, `2\n${"0".repeat(64)}\n${"F".repeat(64)}\n`);
    assert.ok(shown.random.startsWith("20\n"), text);
    assert.equal(code, 0);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}, { commands: ["swtpm"] });

/** A bzImage boots, slowly where ring 0 is emulated, for it unpacks itself; here with memory on both sides of the hole. */
import assert from "node:assert/strict";
import { linuxTest, startGuest } from "./subject.ts";

const UNPACK_TIMEOUT_MS = 600_000;

linuxTest("a bzImage boots to its script, and finds 6 GiB", async () => {
  await using guest = await startGuest({
    kernel: "bzImage",
    memory: "size=6G",
    script: "grep 'System RAM' /proc/iomem; grep ^MemTotal: /proc/meminfo; exit 5\n",
  });
  const { output, code } = await guest.scriptEnd(UNPACK_TIMEOUT_MS);
  const lines = output.trim().split("\n");
  assert.deepEqual(lines.slice(0, -1), [
    "00001000-0009ffff : System RAM",
    "00100000-bfffffff : System RAM",
    "100000000-1bfffffff : System RAM",
  ]);
  const totalKib = Number(/\d+/.exec(lines.at(-1)!)![0]);
  assert.ok(totalKib > 5.8 * 2 ** 20 && totalKib <= 6 * 2 ** 20, output);
  assert.equal(code, 5);
  assert.deepEqual(await guest.vm.waitForExit(), { code: 0, signal: null });
}, { slowLinux: true });

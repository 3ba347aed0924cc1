/** A bzImage boots: slow where ring 0 is emulated, for it unpacks itself. */
import assert from "node:assert/strict";
import { linuxTest, startGuest } from "./subject.ts";

const UNPACK_TIMEOUT_MS = 300_000;

linuxTest("a bzImage boots to its script", async () => {
  await using guest = await startGuest({ kernel: "bzImage", script: "echo $((6 * 7)); exit 5\n" });
  assert.deepEqual(await guest.scriptEnd(UNPACK_TIMEOUT_MS), { output: "42\n", code: 5 });
  assert.deepEqual(await guest.vm.waitForExit(), { code: 0, signal: null });
});

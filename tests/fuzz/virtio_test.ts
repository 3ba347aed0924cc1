/**
 * Queue handlers and registers of every virtio device under a driver that breaks all rules.
 *
 * `FUZZ_MS` is the time to spend on each device (a fifth of a second unless set), `FUZZ_SEED` where to begin: each round has
 * a seed of its own, which a failure names; that seed alone repeats it.
 */
import assert from "node:assert/strict";
import { Random } from "@tests/differential/bodies.ts";
import { torment } from "./virtio/harness.ts";
import { SUBJECTS } from "./virtio/subjects.ts";

const FUZZ_MS = Number(Deno.env.get("FUZZ_MS") ?? 200);
const SEED = Number(Deno.env.get("FUZZ_SEED") ?? 1);
/** Rounds in which a device that can be broken at all has been. */
const MIN_ROUNDS = 20;

for (const [name, subject] of Object.entries(SUBJECTS)) {
  Deno.test(`${name}: whatever a driver does, it is served or told to reset (FUZZ_SEED=${SEED})`, () => {
    let failures = 0;
    const end = performance.now() + FUZZ_MS;
    for (let seed = SEED; seed < SEED + MIN_ROUNDS || performance.now() < end; seed++) {
      try {
        failures += torment(new Random(seed), subject);
      } catch (error) {
        throw new Error(`Fails with FUZZ_SEED=${seed}`, { cause: error });
      }
    }
    assert.ok(failures > 0, "no driver was hostile enough");
  });
}

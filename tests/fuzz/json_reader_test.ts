/**
 * Properties of the JSON reader under random damage. `FUZZ_MS` is the time to spend, a fifth of a second unless set.
 */
import assert from "node:assert/strict";
import { VmConfigSchema } from "@schemas/api/vm_config.ts";
import { readJson } from "@schemas/json/reader.ts";
import { writeJson } from "@schemas/json/writer.ts";
import { damagedBody, Random, validBody } from "@tests/differential/bodies.ts";

const FUZZ_MS = Number(Deno.env.get("FUZZ_MS") ?? 200);
const SEED = Number(Deno.env.get("FUZZ_SEED") ?? 1);

/** Calls `step` with random numbers until the time is over; names the seed when it fails. */
function forSomeTime(step: (random: Random) => void): void {
  const random = new Random(SEED);
  const end = performance.now() + FUZZ_MS;
  let steps = 0;
  try {
    do {
      step(random);
      steps++;
    } while (performance.now() < end);
  } catch (error) {
    throw new Error(`Failed at step ${steps} of FUZZ_SEED=${SEED}`, { cause: error });
  }
}

Deno.test("valid bodies are read, and what is written reads the same", () => {
  forSomeTime((random) => {
    const body = validBody(VmConfigSchema, random);
    const read = readJson(VmConfigSchema, body);
    if (!read.ok) {
      assert.match(read.message, /^unknown field/, body);
      return;
    }
    const text = writeJson(VmConfigSchema, read.value);
    const again = readJson(VmConfigSchema, text);
    assert.ok(again.ok, text);
    assert.deepEqual(again.value, read.value);
    assert.equal(writeJson(VmConfigSchema, again.value), text);
  });
});

Deno.test("damaged bodies are refused with a position, or were still JSON", () => {
  forSomeTime((random) => {
    const body = damagedBody(validBody(VmConfigSchema, random), random);
    const read = readJson(VmConfigSchema, body);
    if (read.ok) assert.doesNotThrow(() => JSON.parse(body), body);
    else assert.match(read.message, / at line \d+ column \d+$/, body);
  });
});

Deno.test("random bytes never throw", () => {
  const alphabet = new TextEncoder().encode('{}[]:,"\\u0 -1.eE+tfn\n\t\x01/xé');
  forSomeTime((random) => {
    const bytes = Uint8Array.from(
      { length: random.below(64) },
      () => random.chance(0.1) ? random.below(256) : random.pick([...alphabet]),
    );
    const read = readJson(VmConfigSchema, bytes);
    if (!read.ok) assert.match(read.message, / at line \d+ column \d+$/);
  });
});

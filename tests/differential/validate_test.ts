/**
 * The validation rules beside the original: configurations that break one or several rules, same message expected.
 */
import assert from "node:assert/strict";
import { ourAnswer, PROBE } from "./our_validation.ts";
import { Random } from "./bodies.ts";
import { REFERENCE_VMM, ReferenceVmm } from "./reference_vmm.ts";
import { VALIDATION_FRAGMENTS } from "./validation_fragments.ts";

const SEED = Number(Deno.env.get("DIFFERENTIAL_SEED") ?? 1);
const CASES = Number(Deno.env.get("DIFFERENTIAL_CASES") ?? 400);

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** Objects are merged, lists joined, anything else replaced. */
function merge(base: Json | undefined, patch: Json): Json {
  if (Array.isArray(base) && Array.isArray(patch)) return [...base, ...patch];
  const isObject = (value: Json | undefined) =>
    typeof value === "object" && value !== null && !Array.isArray(value);
  if (!isObject(base) || !isObject(patch)) return patch;
  const merged = { ...base as Record<string, Json> };
  for (const [key, value] of Object.entries(patch as Record<string, Json>)) {
    merged[key] = merge(merged[key], value);
  }
  return merged;
}

const BASE: Json = { payload: { kernel: "k" }, console: { mode: "Null" }, memory: { size: 1 << 29 } };
const GOLDEN = new URL("../golden/validation_messages.json", import.meta.url);

async function answersTo(reference: ReferenceVmm, config: Json) {
  const body = JSON.stringify(config);
  const created = await reference.request("PUT", "vm.create", body);
  assert.equal(created.status, 204, `${body}: ${created.body}`);
  const reply = await reference.request("PUT", "vm.add-disk", PROBE);
  await reference.request("PUT", "vm.delete");
  const ours = ourAnswer(body);
  return { body, ours, theirs: `${reply.status} ${reply.body}` };
}

function validation(name: string, run: (reference: ReferenceVmm) => Promise<void>): void {
  Deno.test({
    name: REFERENCE_VMM === undefined ? `${name} (skipped: REFERENCE_VMM is not set)` : name,
    ignore: REFERENCE_VMM === undefined,
    fn: async () => {
      await using reference = await ReferenceVmm.start();
      await run(reference);
    },
  });
}

validation("each broken rule gives the original's message", async (reference) => {
  const differences: unknown[] = [];
  const golden: unknown[] = [];
  for (const fragment of VALIDATION_FRAGMENTS) {
    const config = merge(BASE, fragment as Json);
    const { body, ours, theirs } = await answersTo(reference, config);
    if (ours !== theirs) differences.push({ body, ours, theirs });
    golden.push({ body, answer: theirs });
  }
  assert.deepEqual(differences, []);
  if (Deno.env.get("UPDATE_GOLDEN") !== undefined) {
    await Deno.writeTextFile(GOLDEN, JSON.stringify(golden, null, 1) + "\n");
  }
});

validation("several broken rules give the message the original finds first", async (reference) => {
  const random = new Random(SEED);
  const differences: unknown[] = [];
  for (let i = 0; i < CASES; i++) {
    let config: Json = BASE;
    for (let count = 2 + random.below(3); count > 0; count--) {
      config = merge(config, random.pick(VALIDATION_FRAGMENTS) as Json);
    }
    const { body, ours, theirs } = await answersTo(reference, config);
    if (ours !== theirs) differences.push({ body, ours, theirs });
  }
  assert.deepEqual(differences, []);
});

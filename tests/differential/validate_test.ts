/**
 * The validation rules beside the original: configurations that break one or several rules, same message expected.
 */
import assert from "node:assert/strict";
import { type DiskConfig, DiskConfigSchema } from "@schemas/api/disk.ts";
import { VmConfigSchema } from "@schemas/api/vm_config.ts";
import { readJson } from "@schemas/json/reader.ts";
import type { ConfigHost } from "@schemas/rules/context.ts";
import { validateVmConfig } from "@schemas/validate.ts";
import { Random } from "./bodies.ts";
import { REFERENCE_VMM, ReferenceVmm } from "./reference_vmm.ts";
import { VALIDATION_FRAGMENTS } from "./validation_fragments.ts";

const SEED = Number(Deno.env.get("DIFFERENTIAL_SEED") ?? 1);
const CASES = Number(Deno.env.get("DIFFERENTIAL_CASES") ?? 400);

const host: ConfigHost = {
  pathExists: (path) => statOf(path) !== undefined,
  fileSizeBytes: (path) => {
    const size = statOf(path)?.size;
    return size === undefined ? undefined : BigInt(size);
  },
};

function statOf(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.statSync(path);
  } catch {
    return undefined;
  }
}

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
// The original validates on every added device; this one breaks no rule of its own.
const PROBE = '{"id":"probe","num_queues":0}';

async function differencesOf(reference: ReferenceVmm, config: Json): Promise<unknown[]> {
  const body = JSON.stringify(config);
  const created = await reference.request("PUT", "vm.create", body);
  assert.equal(created.status, 204, `${body}: ${created.body}`);
  const reply = await reference.request("PUT", "vm.add-disk", PROBE);
  await reference.request("PUT", "vm.delete");
  const read = readJson(VmConfigSchema, body);
  const probe = readJson(DiskConfigSchema, PROBE);
  assert.ok(read.ok && probe.ok);
  const disks: DiskConfig[] = [...read.value.disks ?? [], probe.value];
  const error = validateVmConfig({ ...read.value, disks }, host);
  const ours = error === undefined
    ? "204 "
    : `${error.status} ${
      JSON.stringify(["Error from API", "The disk could not be added to the VM", ...error.chain()])
    }`;
  const theirs = `${reply.status} ${reply.body}`;
  return ours === theirs ? [] : [{ body, ours, theirs }];
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
  for (const fragment of VALIDATION_FRAGMENTS) {
    differences.push(...await differencesOf(reference, merge(BASE, fragment as Json)));
  }
  assert.deepEqual(differences, []);
});

validation("several broken rules give the message the original finds first", async (reference) => {
  const random = new Random(SEED);
  const differences: unknown[] = [];
  for (let i = 0; i < CASES; i++) {
    let config: Json = BASE;
    for (let count = 2 + random.below(3); count > 0; count--) {
      config = merge(config, random.pick(VALIDATION_FRAGMENTS) as Json);
    }
    differences.push(...await differencesOf(reference, config));
  }
  assert.deepEqual(differences, []);
});

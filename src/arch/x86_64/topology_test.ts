import assert from "node:assert/strict";
import { needsX2apicMode, resolveTopology, x2apicId } from "./topology.ts";
import { ArchError } from "./errors.ts";

const topology = (t: number, c: number, d: number, p: number) => ({
  threadsPerCore: t,
  coresPerDie: c,
  diesPerPackage: d,
  packages: p,
});

Deno.test("x2apicId() pads each level to a power of two", () => {
  const ids = (shape: [number, number, number, number], count: number) =>
    Array.from({ length: count }, (_, cpu) => x2apicId(cpu, topology(...shape)));
  assert.deepEqual(ids([2, 3, 1, 2], 9), [0, 1, 2, 3, 4, 5, 8, 9, 10]);
  assert.deepEqual(ids([1, 3, 2, 2], 12), [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14]);
  assert.equal(x2apicId(257, topology(1, 312, 1, 1)), 257);
});

Deno.test("x2apicId() numbers vCPUs beyond the product as further packages", () => {
  const shape = resolveTopology(topology(1, 3, 1, 1), 1);
  assert.deepEqual([0, 1, 2, 3, 4].map((cpu) => x2apicId(cpu, shape)), [0, 1, 2, 4, 5]);
});

Deno.test("x2apicId() is the vCPU number without a configured topology", () => {
  const shape = resolveTopology(undefined, 3);
  assert.deepEqual([0, 1, 2, 3, 4].map((cpu) => x2apicId(cpu, shape)), [0, 1, 2, 3, 4]);
});

Deno.test("needsX2apicMode() looks at every vCPU that may exist", () => {
  assert.equal(needsX2apicMode(255, resolveTopology(undefined, 255)), false);
  assert.equal(needsX2apicMode(256, resolveTopology(undefined, 256)), true);
  assert.equal(needsX2apicMode(300, resolveTopology(undefined, 1)), true);
  assert.equal(needsX2apicMode(0, resolveTopology(undefined, 0)), false);
});

Deno.test("resolveTopology() refuses a zero part", () => {
  assert.throws(() => resolveTopology(topology(0, 1, 1, 1), 1), ArchError);
});

import assert from "node:assert/strict";
import { CounterWriter, defineCounters, readCounters } from "@vmm/sync/counters.ts";

const layout = defineCounters(["bytes", "lowest"]);

Deno.test("CounterWriter carries into the upper half exactly", () => {
  const buffer = new SharedArrayBuffer(layout.sizeBytes);
  const writer = new CounterWriter(buffer);
  writer.begin();
  for (const amount of [2 ** 32 - 1, 1, 2 ** 53 - 1, 5, 2 ** 32 + 7]) writer.add(layout.at.bytes, amount);
  writer.setAllOnes(layout.at.lowest);
  writer.end();
  const expected = 2n ** 32n - 1n + 1n + 2n ** 53n - 1n + 5n + 2n ** 32n + 7n;
  assert.deepEqual(readCounters(layout, buffer), { bytes: expected, lowest: 2n ** 64n - 1n });
});

Deno.test("CounterWriter.set() keeps 53 bits and get() gives them back", () => {
  const writer = new CounterWriter(new SharedArrayBuffer(layout.sizeBytes));
  writer.set(layout.at.lowest, 2 ** 53 - 1);
  assert.equal(writer.get(layout.at.lowest), 2 ** 53 - 1);
  writer.set(layout.at.lowest, 3);
  assert.equal(writer.get(layout.at.lowest), 3);
});

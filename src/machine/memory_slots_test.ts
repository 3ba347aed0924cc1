import assert from "node:assert/strict";
import { MemorySlots } from "./memory_slots.ts";

Deno.test("MemorySlots gives the lowest free number", () => {
  const slots = new MemorySlots(2);
  assert.deepEqual([slots.take(), slots.take(), slots.take()], [2, 3, 4]);
  slots.give(2);
  slots.give(3);
  assert.deepEqual([slots.take(), slots.take(), slots.take()], [2, 3, 5]);
});

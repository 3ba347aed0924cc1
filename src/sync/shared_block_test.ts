import assert from "node:assert/strict";
import { type BlockOf, defineBlock } from "./shared_block.ts";

const FIELDS = { status: "u32", fifo: { u8: 5 }, table: { u32: 3 }, tail: "u32" } as const;
const Example = defineBlock("example", FIELDS);

Deno.test("attach() gives the same words to two isolates, and one view to each", () => {
  const a: BlockOf<typeof Example> = Example.create();
  assert.equal(Example.attach(a.buffer), a);
  const b = defineBlock("example", FIELDS).attach(a.buffer);
  a.status = 0xffff_ffff;
  a.fifo[4] = 7;
  a.table[2] = 9;
  b.tail = 1;
  assert.equal(b.status, 0xffff_ffff);
  assert.equal(b.fifo[4], 7);
  assert.equal(b.table[2], 9);
  assert.equal(a.tail, 1);
});

Deno.test("defineBlock() gives word indices that Atomics can use", () => {
  const block = Example.create();
  Atomics.store(block.words, Example.index.tail, 42);
  assert.equal(block.tail, 42);
});

Deno.test("attach() refuses a buffer that is too small", () => {
  assert.throws(() => Example.attach(new SharedArrayBuffer(8)), RangeError);
});

Deno.test("lock() excludes and unlock() releases", () => {
  const block = Example.create();
  block.lock();
  assert.equal(block.words[0], 1);
  block.unlock();
  assert.equal(block.words[0], 0);
});

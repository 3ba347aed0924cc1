import assert from "node:assert/strict";
import { ByteWriter, checksum8 } from "./byte_writer.ts";

Deno.test("ByteWriter writes little-endian and cuts to width", () => {
  const bytes = new ByteWriter().u8(0x1ff).u16(0x1234).u32(0x89ab_cdef).u64(0x1_0000_0002, 3n).take();
  assert.deepEqual([...bytes], [
    ...[0xff, 0x34, 0x12, 0xef, 0xcd, 0xab, 0x89],
    ...[2, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0],
  ]);
});

Deno.test("ByteWriter grows in the middle of scalars, strings and zeros", () => {
  const writer = new ByteWriter().zeros(255).u16(0x1122).zeros(1000).ascii("AB", 4, 0x20).u32(7);
  const bytes = writer.take();
  assert.equal(bytes.length, 255 + 2 + 1000 + 4 + 4);
  assert.deepEqual([bytes[255], bytes[256]], [0x22, 0x11]);
  assert.deepEqual([...bytes.subarray(1257)], [0x41, 0x42, 0x20, 0x20, 7, 0, 0, 0]);
});

Deno.test("checksum8() makes the sum zero", () => {
  assert.equal(checksum8(Uint8Array.of(1, 2, 3)), 250);
  assert.equal(checksum8(new Uint8Array(4)), 0);
});

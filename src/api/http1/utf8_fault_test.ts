import assert from "node:assert/strict";
import { utf8Fault } from "./utf8_fault.ts";

Deno.test("utf8Fault() agrees with a strict decoder on every two-byte string and on longer ones", () => {
  const strict = new TextDecoder("utf-8", { fatal: true });
  const isUtf8 = (bytes: Uint8Array) => {
    try {
      strict.decode(bytes);
      return true;
    } catch {
      return false;
    }
  };
  for (let value = 0; value < 0x1_0000; value++) {
    const bytes = Uint8Array.of(value >> 8, value & 0xff);
    assert.equal(utf8Fault(bytes) === undefined, isUtf8(bytes), String(value));
  }
  for (const text of ["", "a", "é", "€", "😀", "\u{10ffff}"]) {
    const bytes = new TextEncoder().encode(text);
    assert.equal(utf8Fault(bytes), undefined);
    if (bytes.length > 1) {
      assert.equal(utf8Fault(bytes.subarray(0, -1)), "incomplete utf-8 byte sequence from index 0");
    }
  }
});

Deno.test("utf8Fault() says where and how long the bad sequence is", () => {
  assert.equal(utf8Fault(Uint8Array.of(0x41, 0xff)), "invalid utf-8 sequence of 1 bytes from index 1");
  assert.equal(utf8Fault(Uint8Array.of(0xe2, 0x82, 0x41)), "invalid utf-8 sequence of 2 bytes from index 0");
  assert.equal(
    utf8Fault(Uint8Array.of(0xf4, 0x90, 0x80, 0x80)),
    "invalid utf-8 sequence of 1 bytes from index 0",
  );
});

import assert from "node:assert/strict";
import {
  decodeBody,
  decodeHeader,
  encodeMessage,
  messageExtent,
  MessageType,
  NO_PROPERTIES,
  shownSignature,
} from "./message.ts";

const LITTLE = 0x6c;

Deno.test("messages come back as they were encoded, whatever the lengths", () => {
  for (let length = 0; length < 40; length++) {
    const body = "é".repeat(length);
    const bytes = encodeMessage({
      type: MessageType.call,
      serial: 7,
      path: "/a",
      interface: "b.c",
      member: "D".repeat(length + 1),
      body: [body, 5],
    });
    const { headerBytes, bodyBytes } = messageExtent(bytes);
    assert.equal(headerBytes % 8, 0);
    assert.equal(headerBytes + bodyBytes, bytes.length);
    const header = decodeHeader(bytes.subarray(0, headerBytes));
    assert.equal(header.serial, 7);
    assert.equal(header.path, "/a");
    assert.equal(header.member, "D".repeat(length + 1));
    assert.equal(header.signature, "su");
    assert.deepEqual(decodeBody(bytes.subarray(headerBytes), "su", bytes[0]), [body, 5]);
  }
});

Deno.test("decodeHeader() reads big-endian messages and ignores unknown fields", () => {
  const bytes = Uint8Array.of(
    ...[0x42, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 16],
    ...[5, 1, 0x75, 0, 0, 0, 0, 3],
    ...[9, 1, 0x75, 0, 0, 0, 0, 1],
  );
  assert.deepEqual(messageExtent(bytes), { headerBytes: 32, bodyBytes: 0 });
  assert.deepEqual(decodeHeader(bytes), { type: 2, flags: 1, serial: 9, replySerial: 3 });
});

Deno.test("decoding refuses what is no message, and lengths beyond the end", () => {
  assert.throws(() => messageExtent(new Uint8Array(16)));
  const bytes = encodeMessage({
    type: MessageType.signal,
    serial: 1,
    path: "/",
    member: "A",
    body: ["text"],
  });
  const { headerBytes } = messageExtent(bytes);
  for (let cut = 17; cut < headerBytes - 8; cut++) assert.throws(() => decodeHeader(bytes.subarray(0, cut)));
  assert.throws(() => decodeBody(bytes.subarray(headerBytes, -2), "s", LITTLE));
  assert.throws(() => decodeBody(Uint8Array.of(255, 255, 255, 255), "s", LITTLE));
  assert.throws(() => decodeBody(new Uint8Array(8), "v", LITTLE));
});

Deno.test("an empty dictionary has its length and the padding of its first entry", () => {
  const bytes = encodeMessage({ type: MessageType.reply, serial: 1, replySerial: 2, body: [NO_PROPERTIES] });
  const { headerBytes, bodyBytes } = messageExtent(bytes);
  assert.equal(decodeHeader(bytes.subarray(0, headerBytes)).signature, "a{sv}");
  assert.deepEqual(bytes.subarray(headerBytes), new Uint8Array(8));
  assert.equal(bodyBytes, 8);
});

Deno.test("shownSignature() puts several types into one structure", () => {
  for (const one of ["", "s", "as", "a{sv}", "(ss)", "aa(s(ii))"]) assert.equal(shownSignature(one), one);
  for (const several of ["ss", "ass", "a{sv}s", "(s)s", "ssv"]) {
    assert.equal(shownSignature(several), `(${several})`);
  }
});

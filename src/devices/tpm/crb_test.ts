import assert from "node:assert/strict";
import { Crb, CRB_DATA_BYTES, CrbService, createCrb } from "./crb.ts";

const GPA = 0xfed4_0000;
const COMMAND = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 8];

function device() {
  const state = createCrb();
  let wakes = 0;
  const crb = new Crb(state, GPA, { wake: () => wakes++ });
  const executed: Uint8Array[] = [];
  let answer: ((response: Uint8Array | undefined) => void) | undefined;
  let cancels = 0;
  const service = new CrbService(state, {
    execute: (command, answered) => {
      executed.push(command);
      answer = answered;
    },
    cancel: () => cancels++,
  });
  /** Puts a command into the buffer and starts it. */
  const start = (bytes: readonly number[] = COMMAND) => {
    crb.write(0x08, 4, 1);
    bytes.forEach((byte, i) => crb.write(0x80 + i, 1, byte));
    crb.write(0x4c, 4, 1);
  };
  const data = (length: number) => Array.from({ length }, (_, i) => crb.read(0x80 + i, 1));
  return {
    state,
    crb,
    service,
    executed,
    start,
    data,
    answer: (response: Uint8Array | undefined) => answer!(response),
    wakes: () => wakes,
    cancels: () => cancels,
  };
}

Deno.test("after reset the registers show an idle interface and where its buffer is", () => {
  const { crb } = device();
  const words = [0x00, 0x0c, 0x30, 0x34, 0x44, 0x4c, 0x58, 0x5c, 0x60, 0x64, 0x68].map((at) =>
    crb.read(at, 4)
  );
  assert.deepEqual(words, [
    ...[0x80, 0, 0x2_5811, 0x1014, 2, 0, 0xf80, 0xfed4_0080, 0, 0xf80, 0xfed4_0080],
  ]);
  assert.deepEqual([crb.read(0x31, 1), crb.read(0x30, 2), crb.read(0x32, 2)], [0x58, 0x5811, 2]);
});

Deno.test("locality is granted and given up, readiness follows the request register", () => {
  const { crb } = device();
  crb.write(0x08, 4, 1);
  crb.write(0x40, 4, 1);
  assert.deepEqual([crb.read(0, 4), crb.read(0x0c, 4), crb.read(0x44, 4)], [0x82, 1, 0]);
  crb.write(0x40, 4, 2);
  crb.write(0x08, 4, 2);
  assert.deepEqual([crb.read(0, 4), crb.read(0x0c, 4), crb.read(0x44, 4)], [0x80, 0, 2]);
  crb.write(0, 4, 0xffff_ffff);
  assert.equal(crb.read(0, 4), 0x80);
});

Deno.test("a command runs while the start register says so, and leaves its response in the buffer", () => {
  const d = device();
  d.start();
  assert.deepEqual([d.crb.read(0x4c, 4), d.wakes(), d.executed.length], [1, 1, 0]);
  d.service.poll();
  d.service.poll();
  d.crb.write(0x4c, 4, 1); // it runs already
  assert.deepEqual(d.executed.map((command) => [...command]), [COMMAND]);
  d.answer(Uint8Array.of(9, 8, 7));
  assert.deepEqual([d.crb.read(0x4c, 4), d.data(4)], [0, [9, 8, 7, 0]]);
});

Deno.test("without the locality nothing starts", () => {
  const d = device();
  d.crb.write(0x4c, 4, 1);
  d.service.poll();
  assert.deepEqual([d.crb.read(0x4c, 4), d.executed.length], [0, 0]);
});

Deno.test("a size no command can have is answered here", () => {
  for (const size of [[0, 0, 0, 9], [0, 0, 0x0f, 0x81], [0xff, 0xff, 0xff, 0xff]]) {
    const d = device();
    d.start([0x80, 1, ...size, 0, 0, 1, 0x7b]);
    d.service.poll();
    assert.deepEqual([d.executed.length, d.data(10)], [0, [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x42]]);
  }
  const d = device();
  d.start([0x80, 1, 0, 0, 0x0f, 0x80, 0, 0, 1, 0x7b]);
  d.service.poll();
  assert.equal(d.executed[0].byteLength, CRB_DATA_BYTES);
});

Deno.test("a TPM that is gone shows as a fatal status", () => {
  const d = device();
  d.start();
  d.service.poll();
  d.answer(undefined);
  assert.equal(d.crb.read(0x44, 4) & 1, 1);
  assert.deepEqual(d.data(10), [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1]);
});

Deno.test("a response longer than the buffer is a failure", () => {
  const d = device();
  d.start();
  d.service.poll();
  d.answer(new Uint8Array(CRB_DATA_BYTES + 1));
  assert.deepEqual(d.data(10).slice(-2), [1, 1]);
});

Deno.test("cancel reaches the TPM only while it works", () => {
  const d = device();
  d.crb.write(0x48, 4, 1);
  d.service.poll();
  assert.equal(d.cancels(), 0);
  d.start();
  d.service.poll();
  d.crb.write(0x48, 4, 1);
  d.service.poll();
  assert.equal(d.cancels(), 1);
});

Deno.test("while paused nothing starts and no response shows", () => {
  const d = device();
  d.start();
  d.service.poll();
  d.service.pause();
  d.answer(Uint8Array.of(5));
  assert.deepEqual([d.crb.read(0x4c, 4), d.data(1)], [1, [0x80]]);
  d.service.resume();
  assert.deepEqual([d.crb.read(0x4c, 4), d.data(1)], [0, [5]]);
});

Deno.test("accesses anywhere in the window are harmless", () => {
  const d = device();
  for (let offset = 0; offset < 0x1000; offset++) {
    for (const size of [1, 2, 4] as const) {
      d.crb.write(offset, size, 0xffff_ffff);
      d.crb.read(offset, size);
    }
  }
  d.service.poll();
  assert.equal(d.crb.read(0xffc, 4), 0xffff_ffff);
});

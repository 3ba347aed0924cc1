import assert from "node:assert/strict";
import { Errno } from "@ffi/abi/errno.ts";
import { close, memfd, setNonBlocking } from "@ffi/libc/fd.ts";
import { read } from "@ffi/libc/io.ts";
import { socketPair } from "@ffi/libc/socket.ts";
import { ByteOutput } from "./byte_output.ts";
import { ChardevBlock, NO_WRITER, OUTPUT_RING_BYTES, Unheard } from "./chardev_block.ts";

function output(writer: number, unheard: number) {
  const state = ChardevBlock.create();
  state.writer = writer;
  state.unheard = unheard;
  const log = { wakes: 0 };
  return { state, log, out: new ByteOutput(state, { wake: () => void log.wakes++ }, false) };
}

const chunk = new Uint8Array(1 << 18);

/** What is there to read. */
function drain(fd: number): Uint8Array {
  let length = 0;
  for (let n = read(fd, chunk); n > 0; n = read(fd, chunk.subarray(length))) length += n;
  return chunk.slice(0, length);
}

const NO_SUCH_FD = 0x7fff_fff0;
const text = (value: string) => new TextEncoder().encode(value);

Deno.test("ByteOutput.put() writes at once while the descriptor takes it", () => {
  const [left, right] = socketPair();
  const { out, log, state } = output(left, Unheard.keep);
  out.put(0x41);
  out.put(0x42);
  assert.equal(new TextDecoder().decode(drain(right)), "AB");
  assert.equal(log.wakes, 0);
  assert.equal(state.count, 0);
  [left, right].forEach(close);
});

Deno.test("ByteOutput keeps what a full descriptor refuses, wakes once, and flush() writes it in order", () => {
  const [left, right] = socketPair();
  const { out, log, state } = output(left, Unheard.keep);
  const block = Uint8Array.from({ length: 10_000 }, (_, i) => i % 253);
  let written = 0;
  while (state.count === 0) {
    out.write(block, block.length);
    written += block.length;
  }
  out.put(7);
  written++;
  assert.equal(log.wakes, 1);
  assert.equal(out.flush(), false);
  let received = 0;
  let wrong = 0;
  let last = 0;
  const check = (part: Uint8Array) => {
    for (last of part) if (last !== (received++ % 10_000) % 253) wrong++;
  };
  for (let done = false; !done;) {
    check(drain(right));
    done = out.flush();
  }
  check(drain(right));
  assert.equal(received, written);
  assert.deepEqual([wrong, last], [1, 7]);
  [left, right].forEach(close);
});

Deno.test("ByteOutput without a listener keeps the newest MiB and counts the rest", () => {
  const { out, log, state } = output(NO_WRITER, Unheard.keep);
  const block = new Uint8Array(300_000);
  for (let i = 0; i < 4; i++) out.write(block.fill(i), block.length);
  out.put(9);
  assert.equal(state.count, OUTPUT_RING_BYTES);
  assert.equal(state.dropped, 4 * 300_000 + 1 - OUTPUT_RING_BYTES);
  assert.equal(log.wakes, 0);
  const file = memfd("replay");
  out.setWriter(file);
  assert.equal(out.flush(), true);
  const replay = Deno.readFileSync(`/proc/self/fd/${file}`);
  assert.equal(replay.length, OUTPUT_RING_BYTES);
  assert.equal(replay[0], 0);
  assert.deepEqual([...replay.subarray(-2)], [3, 9]);
  close(file);
});

Deno.test("ByteOutput.write() of more than the ring keeps its end", () => {
  const { out, state } = output(NO_WRITER, Unheard.keep);
  const block = new Uint8Array(OUTPUT_RING_BYTES + 5);
  block[4] = 1;
  block[5] = 2;
  out.write(block, block.length);
  assert.equal(state.count, OUTPUT_RING_BYTES);
  assert.equal(state.dropped, 5);
  assert.equal(state.ring[state.head], 2);
});

Deno.test("ByteOutput that nobody can ever hear keeps nothing", () => {
  const { out, state, log } = output(NO_WRITER, Unheard.discard);
  out.write(text("lost"), 4);
  assert.equal(state.count, 0);
  assert.equal(log.wakes, 0);
});

Deno.test("ByteOutput to a lost peer keeps the byte and has the loss noticed", () => {
  const [left, right] = socketPair();
  close(right);
  const { out, state, log } = output(left, Unheard.keep);
  out.put(0x41);
  assert.equal(state.writer, NO_WRITER);
  assert.equal(state.count, 1);
  assert.equal(log.wakes, 1);
  close(left);
});

Deno.test("ByteOutput drops and counts what a file refuses for good", () => {
  const { out, state } = output(NO_SUCH_FD, Unheard.discard);
  out.write(text("bad descriptor"), 14);
  assert.equal(state.dropped, 14);
  assert.equal(state.count, 0);
});

Deno.test("ByteOutput asks a blocking descriptor before each write", () => {
  const [left, right] = socketPair();
  setNonBlocking(left, false);
  const state = ChardevBlock.create();
  state.writer = left;
  const out = new ByteOutput(state, { wake() {} }, true);
  const block = new Uint8Array(4096);
  for (let i = 0; i < 200; i++) out.write(block, block.length);
  assert.ok(state.count > 0);
  assert.equal(out.flush(), false);
  const bytes = new Uint8Array(1);
  assert.equal(read(right, bytes), 1);
  assert.notEqual(read(right, bytes), -Errno.EAGAIN);
  [left, right].forEach(close);
});

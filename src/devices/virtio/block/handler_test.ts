import assert from "node:assert/strict";
import { createLimiterState } from "@vmm/base/rate_limiter.ts";
import { featureMask } from "@vmm/virtio/features.ts";
import { createBlockCounters, NO_AVERAGE, readBlockCounters } from "./counters.ts";
import {
  BlockConfig,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "./spec.ts";
import { BlockRig, NOT_ANSWERED } from "./testing/block_rig.ts";

const U64_MAX = 2n ** 64n - 1n;
const filled = (length: number, value: number) => new Uint8Array(length).fill(value);

function segment(sector: number | bigint, sectors: number, flags = 0): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(16));
  view.setBigUint64(0, BigInt(sector), true);
  view.setUint32(8, sectors, true);
  view.setUint32(12, flags, true);
  return new Uint8Array(view.buffer);
}

Deno.test("block handler writes and reads data, and says how much it wrote to memory", () => {
  const rig = new BlockRig();
  assert.deepEqual(rig.request(VIRTIO_BLK_T_OUT, 3, filled(1024, 7)).status, VIRTIO_BLK_S_OK);
  assert.deepEqual(rig.disk.bytes.subarray(1536, 2560), filled(1024, 7));
  const read = rig.request(VIRTIO_BLK_T_IN, 4, undefined, 1024);
  assert.equal(read.status, VIRTIO_BLK_S_OK);
  assert.equal(read.writtenBytes, 1025);
  assert.deepEqual(read.data, Uint8Array.of(...filled(512, 7), ...filled(512, 0)));
  assert.equal(rig.queueInterrupts, 2);
});

Deno.test("block handler takes a header and a status that share descriptors with data", () => {
  const rig = new BlockRig();
  rig.disk.bytes.fill(9, 0, 512);
  const header = new Uint8Array(16);
  const { addresses } = rig.driver.submit([{ send: header.slice(0, 5) }, { send: header.slice(5) }, {
    receive: 513,
  }]);
  rig.handler.onKick(0);
  assert.equal(rig.driver.complete()?.writtenBytes, 513);
  const bytes = rig.driver.at(addresses[2], 513);
  assert.deepEqual(bytes.subarray(0, 512), filled(512, 9));
  assert.equal(bytes[512], VIRTIO_BLK_S_OK);
});

Deno.test("block handler refuses what does not fit the disk", () => {
  const rig = new BlockRig({ diskBytes: 8 * 512 });
  const cases: [number, number | bigint, Uint8Array<ArrayBuffer> | undefined, number][] = [
    [VIRTIO_BLK_T_IN, 8, undefined, 512],
    [VIRTIO_BLK_T_IN, 7, undefined, 1024],
    [VIRTIO_BLK_T_IN, 0, undefined, 511],
    [VIRTIO_BLK_T_IN, 2n ** 64n - 1n, undefined, 512],
    [VIRTIO_BLK_T_IN, 2n ** 55n, undefined, 512],
    [VIRTIO_BLK_T_OUT, 8, filled(512, 1), 0],
    [VIRTIO_BLK_T_OUT, 0, filled(100, 1), 0],
    [VIRTIO_BLK_T_OUT, 0, filled(512, 1), 8],
    [VIRTIO_BLK_T_IN, 0, filled(512, 1), 512],
    [VIRTIO_BLK_T_GET_ID, 0, undefined, 19],
    [VIRTIO_BLK_T_DISCARD, 0, segment(8, 1), 0],
    [VIRTIO_BLK_T_DISCARD, 0, segment(0, 9), 0],
    [VIRTIO_BLK_T_DISCARD, 0, segment(0, 0), 0],
    [VIRTIO_BLK_T_DISCARD, 0, segment(2n ** 64n - 100n, 1000), 0],
    [VIRTIO_BLK_T_DISCARD, 0, filled(15, 0), 0],
    [VIRTIO_BLK_T_DISCARD, 0, filled(32, 0), 0],
    [VIRTIO_BLK_T_WRITE_ZEROES, 0, segment(7, 2), 0],
  ];
  for (const [type, sector, payload, receive] of cases) {
    const answer = rig.request(type, sector, payload, receive);
    assert.equal(answer.status, VIRTIO_BLK_S_IOERR, `type ${type} sector ${sector}`);
    assert.equal(answer.writtenBytes, 1);
  }
  assert.deepEqual(rig.disk.calls, []);
});

Deno.test("block handler answers unknown requests and flags with UNSUPP", () => {
  const rig = new BlockRig();
  assert.equal(rig.request(99, 0, filled(8, 0)).status, VIRTIO_BLK_S_UNSUPP);
  assert.equal(rig.request(VIRTIO_BLK_T_DISCARD, 0, segment(1, 1, 1)).status, VIRTIO_BLK_S_UNSUPP);
  assert.equal(rig.request(VIRTIO_BLK_T_WRITE_ZEROES, 0, segment(1, 1, 2)).status, VIRTIO_BLK_S_UNSUPP);
  const bare = new BlockRig({ backend: { discard: false, writeZeroes: false } });
  assert.equal(bare.request(VIRTIO_BLK_T_DISCARD, 0, segment(1, 1)).status, VIRTIO_BLK_S_UNSUPP);
  assert.equal(bare.request(VIRTIO_BLK_T_WRITE_ZEROES, 0, segment(1, 1)).status, VIRTIO_BLK_S_UNSUPP);
});

Deno.test("block handler returns a chain without room for a status as it is", () => {
  const rig = new BlockRig();
  rig.driver.submit([{ send: filled(16, 0) }]);
  rig.handler.onKick(0);
  assert.equal(rig.driver.complete()?.writtenBytes, 0);
  assert.equal(rig.faults.length, 0);
});

Deno.test("block handler gives the serial number", () => {
  const answer = new BlockRig().request(VIRTIO_BLK_T_GET_ID, 0, undefined, 20);
  assert.equal(new TextDecoder().decode(answer.data), "serial-of-20-bytes..");
  assert.equal(answer.status, VIRTIO_BLK_S_OK);
  assert.equal(answer.writtenBytes, 21);
});

Deno.test("block handler discards and zeroes ranges", () => {
  const rig = new BlockRig();
  assert.equal(rig.request(VIRTIO_BLK_T_DISCARD, 0, segment(2, 3)).status, VIRTIO_BLK_S_OK);
  assert.equal(rig.request(VIRTIO_BLK_T_WRITE_ZEROES, 0, segment(4, 1)).status, VIRTIO_BLK_S_OK);
  assert.equal(rig.request(VIRTIO_BLK_T_WRITE_ZEROES, 0, segment(5, 1, 1)).status, VIRTIO_BLK_S_OK);
  assert.deepEqual(rig.disk.calls, [
    { operation: "discard", offset: 1024, lengthBytes: 1536 },
    { operation: "zero", offset: 2048, lengthBytes: 512 },
    { operation: "unmap", offset: 2560, lengthBytes: 512 },
  ]);
});

Deno.test("block handler of a read-only disk refuses every change and nothing else", () => {
  const rig = new BlockRig({ backend: { readonly: true } });
  for (const type of [VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES, 77]) {
    assert.equal(rig.request(type, 1, filled(512, 0)).status, VIRTIO_BLK_S_IOERR);
  }
  assert.equal(rig.request(VIRTIO_BLK_T_IN, 1, undefined, 512).status, VIRTIO_BLK_S_OK);
  assert.equal(rig.request(VIRTIO_BLK_T_FLUSH, 0).status, VIRTIO_BLK_S_OK);
  assert.equal(rig.request(VIRTIO_BLK_T_GET_ID, 0, undefined, 20).status, VIRTIO_BLK_S_OK);
});

Deno.test("block handler protects sector 0 of a disk whose format was guessed", () => {
  const rig = new BlockRig({ backend: { protectSectorZero: true } });
  assert.equal(rig.request(VIRTIO_BLK_T_OUT, 0, filled(512, 1)).status, VIRTIO_BLK_S_IOERR);
  assert.equal(rig.request(VIRTIO_BLK_T_DISCARD, 0, segment(0, 2)).status, VIRTIO_BLK_S_IOERR);
  assert.equal(rig.request(VIRTIO_BLK_T_WRITE_ZEROES, 0, segment(0, 2)).status, VIRTIO_BLK_S_IOERR);
  assert.equal(rig.request(VIRTIO_BLK_T_OUT, 1, filled(512, 1)).status, VIRTIO_BLK_S_OK);
  assert.equal(rig.request(VIRTIO_BLK_T_IN, 0, undefined, 512).status, VIRTIO_BLK_S_OK);
});

Deno.test("block handler flushes after each write in write-through mode", () => {
  const rig = new BlockRig();
  rig.request(VIRTIO_BLK_T_OUT, 1, filled(512, 1));
  rig.config[BlockConfig.writeback] = 0;
  rig.request(VIRTIO_BLK_T_OUT, 1, filled(512, 1));
  assert.deepEqual(rig.disk.calls.map((call) => call.operation), ["write", "write", "flush"]);
  const noChoice = new BlockRig({ features: 0n });
  assert.equal(noChoice.config[BlockConfig.writeback], 0);
  noChoice.request(VIRTIO_BLK_T_OUT, 1, filled(512, 1));
  assert.deepEqual(noChoice.disk.calls.map((call) => call.operation), ["write", "flush"]);
});

Deno.test("block handler answers later what the disk finishes later, in any order", () => {
  const rig = new BlockRig({ features: featureMask(VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_CONFIG_WCE) });
  rig.disk.async = true;
  const first = rig.submit(VIRTIO_BLK_T_OUT, 1, filled(512, 1));
  const second = rig.submit(VIRTIO_BLK_T_IN, 1, undefined, 512);
  rig.handler.onKick(0);
  assert.equal(rig.driver.complete(), undefined);
  assert.equal(rig.driver.at(first.status, 1)[0], NOT_ANSWERED);
  rig.handler.drain();
  assert.equal(rig.answer(first).status, VIRTIO_BLK_S_OK);
  assert.equal(rig.answer(second, 512).status, VIRTIO_BLK_S_OK);
  assert.equal(rig.disk.waiting, 0);
});

Deno.test("block handler flushes a write-through write that finishes later before it answers", () => {
  const rig = new BlockRig({ features: 0n });
  rig.disk.async = true;
  const write = rig.submit(VIRTIO_BLK_T_OUT, 1, filled(512, 1));
  rig.handler.onKick(0);
  assert.deepEqual(rig.disk.calls.map((call) => call.operation), ["write"]);
  rig.handler.drain();
  assert.deepEqual(rig.disk.calls.map((call) => call.operation), ["write", "flush"]);
  assert.equal(rig.answer(write).status, VIRTIO_BLK_S_OK);
});

Deno.test("block handler answers a failing disk with IOERR and reports it once", () => {
  const rig = new BlockRig();
  rig.disk.failWith = -28;
  assert.equal(rig.request(VIRTIO_BLK_T_OUT, 1, filled(512, 1)).status, VIRTIO_BLK_S_IOERR);
  assert.equal(rig.request(VIRTIO_BLK_T_FLUSH, 0).status, VIRTIO_BLK_S_IOERR);
  rig.disk.failWith = 100;
  assert.equal(rig.request(VIRTIO_BLK_T_IN, 1, undefined, 512).status, VIRTIO_BLK_S_IOERR);
  assert.equal(rig.posted.length, 1);
  assert.equal(readBlockCounters(rig.counters).read_ops, 0n);
  rig.nowUs += 2_000_000;
  rig.request(VIRTIO_BLK_T_IN, 1, undefined, 512);
  assert.deepEqual(rig.posted.map((event) => (event as { leftOut?: number }).leftOut), [0, 2]);
});

Deno.test("block handler breaks when a head comes twice", () => {
  const rig = new BlockRig();
  const { head } = rig.submit(VIRTIO_BLK_T_IN, 0, undefined, 512);
  rig.driver.offer(head);
  rig.handler.onKick(0);
  assert.equal(rig.faults.length, 1);
  const slow = new BlockRig();
  slow.disk.async = true;
  const submitted = slow.submit(VIRTIO_BLK_T_IN, 0, undefined, 512);
  slow.handler.onKick(0);
  slow.driver.offer(submitted.head);
  slow.handler.onKick(0);
  assert.equal(slow.faults.length, 1);
});

Deno.test("block handler breaks with the queue's own fault", () => {
  const rig = new BlockRig();
  rig.driver.setAvailableIndex(200);
  rig.handler.onKick(0);
  assert.equal(rig.faults.length, 1);
  rig.handler.onKick(0);
  assert.equal(rig.faults.length, 1);
});

Deno.test("block handler stops at the rate limit and goes on when the timer fires", () => {
  const limiter = createLimiterState({ ops: { size: 2, oneTimeBurst: 0, refillMs: 1000 } }, 1000);
  const rig = new BlockRig({ backend: { limiter } });
  const all = [0, 1, 2, 3].map((sector) => rig.submit(VIRTIO_BLK_T_IN, sector, undefined, 512));
  rig.handler.onKick(0);
  assert.equal(rig.disk.calls.length, 2);
  assert.deepEqual(rig.timers.map((timer) => timer.delayMs), [100]);
  rig.handler.onKick(0);
  assert.equal(rig.timers.length, 1);
  rig.nowUs += 2_000_000;
  rig.timers.shift()!.fire();
  assert.equal(rig.disk.calls.length, 4);
  for (const submitted of all) assert.equal(rig.answer(submitted, 512).status, VIRTIO_BLK_S_OK);
});

Deno.test("block handler forgets its timer while paused and resumes with the next kick", () => {
  const limiter = createLimiterState({ ops: { size: 1, oneTimeBurst: 0, refillMs: 1000 } }, 1000);
  const rig = new BlockRig({ backend: { limiter } });
  rig.submit(VIRTIO_BLK_T_IN, 0, undefined, 512);
  rig.submit(VIRTIO_BLK_T_IN, 1, undefined, 512);
  rig.handler.onKick(0);
  rig.handler.drain();
  assert.equal(rig.timers.length, 0);
  rig.nowUs += 5_000_000;
  rig.handler.onKick(0);
  assert.equal(rig.disk.calls.length, 2);
});

Deno.test("block handler resizes: capacity, limit and interrupt", () => {
  const rig = new BlockRig({ diskBytes: 4 * 512 });
  assert.equal(rig.request(VIRTIO_BLK_T_IN, 4, undefined, 512).status, VIRTIO_BLK_S_IOERR);
  assert.deepEqual(rig.handler.onCommand!({ kind: "resize", sizeBytes: 8 * 512 }), { result: 0 });
  assert.equal(rig.config[BlockConfig.capacity], 8);
  assert.equal(rig.configInterrupts, 1);
  assert.equal(rig.request(VIRTIO_BLK_T_IN, 4, undefined, 512).status, VIRTIO_BLK_S_OK);
  assert.deepEqual(rig.handler.onCommand!({ kind: "resize", sizeBytes: 100 }), { result: -22 });
  assert.deepEqual(rig.handler.onCommand!({ kind: "other" }), { result: -22 });
  assert.equal(rig.configInterrupts, 1);
});

Deno.test("block handler takes transfers with more segments than one call", () => {
  const rig = new BlockRig({ size: 2048, ramBytes: 8 << 20, diskBytes: 2 << 20 });
  for (let i = 0; i < rig.disk.bytes.length; i++) rig.disk.bytes[i] = i % 251;
  const { addresses } = rig.driver.submit([
    { send: new Uint8Array(16) },
    ...new Array(1500).fill({ receive: 256 + 512 }),
    { receive: 1 },
  ]);
  rig.handler.onKick(0);
  assert.equal(rig.driver.complete()?.writtenBytes, 1500 * 768 + 1);
  const read = addresses.slice(1, -1).flatMap((at) => [...rig.driver.at(at, 768)]);
  assert.deepEqual(Uint8Array.from(read), rig.disk.bytes.subarray(0, 1500 * 768));
  assert.equal(rig.disk.calls.length, 2);
});

Deno.test("block handler leaves the loop after a turn and comes back", () => {
  const rig = new BlockRig({ indirect: true, diskBytes: 1 << 20, ramBytes: 48 << 20 });
  for (let i = 0; i < 40; i++) rig.submit(VIRTIO_BLK_T_IN, 0, undefined, 1 << 20);
  rig.handler.onKick(0);
  assert.deepEqual(rig.timers.map((timer) => timer.delayMs), [0]);
  assert.equal(rig.disk.calls.length, 32);
  rig.timers.shift()!.fire();
  assert.equal(rig.disk.calls.length, 40);
  assert.equal(rig.timers.length, 0);
});

Deno.test("block counters start as the original's and count exactly", () => {
  const fresh = readBlockCounters(createBlockCounters());
  assert.equal(fresh.read_latency_min, U64_MAX);
  assert.equal(fresh.write_latency_max, U64_MAX);
  assert.equal(fresh.read_latency_avg, NO_AVERAGE);
  assert.deepEqual([fresh.read_ops, fresh.write_bytes], [0n, 0n]);
  assert.deepEqual(readBlockCounters(), fresh, "a disk without queues");
  const rig = new BlockRig();
  rig.request(VIRTIO_BLK_T_OUT, 1, filled(1024, 1));
  rig.request(VIRTIO_BLK_T_IN, 1, undefined, 512);
  rig.disk.async = true;
  rig.submit(VIRTIO_BLK_T_IN, 1, undefined, 512);
  rig.handler.onKick(0);
  rig.nowUs += 300.9;
  rig.handler.drain();
  const counters = readBlockCounters(rig.counters);
  assert.deepEqual([counters.write_bytes, counters.write_ops, counters.read_bytes, counters.read_ops], [
    1024n,
    1n,
    1024n,
    2n,
  ]);
  assert.deepEqual([counters.read_latency_min, counters.read_latency_max, counters.read_latency_avg], [
    0n,
    300n,
    150n,
  ]);
});

/** Submits reads or writes of one sector each and kicks once; the answers in order. */
function oneBatch(rig: BlockRig, requests: readonly (readonly [type: number, sector: number])[]) {
  const submitted = requests.map(([type, sector]) =>
    type === VIRTIO_BLK_T_IN
      ? rig.submit(type, sector, undefined, 512)
      : rig.submit(type, sector, new Uint8Array(type === VIRTIO_BLK_T_OUT ? 512 : 0).fill(sector))
  );
  rig.handler.onKick(0);
  return submitted.map((one, i) => rig.answer(one, requests[i][0] === VIRTIO_BLK_T_IN ? 512 : 0));
}

const called = (rig: BlockRig) =>
  rig.disk.calls.map(({ operation, offset, lengthBytes }) =>
    `${operation} ${offset / 512}+${lengthBytes / 512}`
  );

Deno.test("block handler does adjacent transfers of a batch by one call", () => {
  const rig = new BlockRig();
  rig.disk.together = true;
  const [IN, OUT] = [VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT];
  const written = oneBatch(rig, [[OUT, 4], [OUT, 5], [OUT, 6], [OUT, 9], [OUT, 10]]);
  assert.deepEqual(written.map(({ status, writtenBytes }) => [status, writtenBytes]), Array(5).fill([0, 1]));
  const read = oneBatch(rig, [[IN, 4], [IN, 5], [IN, 9], [OUT, 10], [IN, 11]]);
  assert.deepEqual(read.map(({ data }) => data[0] ?? -1), [4, 5, 9, -1, 0]);
  assert.deepEqual(called(rig), [
    "write 4+3",
    "write 9+2",
    "read 4+2",
    "read 9+1",
    "write 10+1",
    "read 11+1",
  ]);
  const { read_ops, read_bytes, write_ops, write_bytes } = readBlockCounters(rig.counters);
  assert.deepEqual([read_ops, read_bytes, write_ops, write_bytes], [4n, 2048n, 6n, 3072n]);
});

Deno.test("block handler keeps the order of what it cannot do together", () => {
  const rig = new BlockRig();
  rig.disk.together = true;
  const [OUT, FLUSH] = [VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH];
  oneBatch(rig, [[OUT, 1], [OUT, 2], [FLUSH, 0], [OUT, 3], [OUT, 4]]);
  assert.deepEqual(called(rig), ["write 1+2", "flush 0+0", "write 3+2"]);
});

Deno.test("block handler does transfers one by one when together fails, so that each has its own status", () => {
  const rig = new BlockRig();
  rig.disk.together = true;
  rig.disk.failWith = -28;
  const answers = oneBatch(rig, [[VIRTIO_BLK_T_OUT, 1], [VIRTIO_BLK_T_OUT, 2]]);
  assert.deepEqual(answers.map(({ status }) => status), [VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_IOERR]);
  assert.deepEqual(called(rig), ["write 1+2", "write 1+1", "write 2+1"]);
});

Deno.test("block handler flushes after each of adjacent writes in write-through mode", () => {
  const rig = new BlockRig({ features: 0n });
  rig.disk.together = true;
  oneBatch(rig, [[VIRTIO_BLK_T_OUT, 1], [VIRTIO_BLK_T_OUT, 2]]);
  assert.deepEqual(called(rig), ["write 1+1", "flush 0+0", "write 2+1", "flush 0+0"]);
});

Deno.test("block handler answers what came before a head that comes twice in a run", () => {
  const rig = new BlockRig();
  rig.disk.together = true;
  const first = rig.submit(VIRTIO_BLK_T_OUT, 1, new Uint8Array(512));
  rig.driver.offer(first.head);
  rig.handler.onKick(0);
  assert.match(rig.faults[0]?.fault ?? "", /made available again/);
  assert.deepEqual(called(rig), ["write 1+1"]);
});

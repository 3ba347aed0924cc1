import assert from "node:assert/strict";
import { DescriptorChain } from "@vmm/virtio/queue/chain.ts";
import { MockDriver } from "@vmm/virtio/testing/mock_driver.ts";
import { type BlockLimits, BlockRequest, NO_STATUS, PROCEED } from "./request.ts";
import { SECTOR_BYTES, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT } from "./spec.ts";
import { BlockRig } from "./testing/block_rig.ts";

const ROUNDS = 300;
const FUZZ_SECTORS = 64;

/** xorshift32: the same sequence in every run. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

const EDGES = [0n, 1n, 63n, 64n, 65n, 2n ** 32n - 1n, 2n ** 53n, 2n ** 55n - 1n, 2n ** 63n, 2n ** 64n - 1n];

Deno.test("BlockRequest.parse() lets through only what lies on the disk, whatever the bytes", () => {
  const next = random(4711);
  const driver = new MockDriver({ size: 16 });
  const queue = driver.queue();
  const chain = new DescriptorChain();
  const request = new BlockRequest();
  for (let round = 0; round < ROUNDS; round++) {
    const limits: BlockLimits = {
      capacitySectors: FUZZ_SECTORS,
      readonly: next(4) === 0,
      protectSectorZero: next(4) === 0,
      discard: next(2) === 0,
      writeZeroes: next(2) === 0,
      serialBytes: 20,
    };
    const readable = new Uint8Array(next(48));
    const view = new DataView(readable.buffer);
    for (let i = 0; i < readable.length; i++) readable[i] = next(256);
    if (readable.length >= 16) {
      if (next(4) > 0) view.setUint32(0, [0, 1, 4, 8, 11, 13][next(6)], true);
      if (next(4) > 0) view.setBigUint64(8, EDGES[next(EDGES.length)], true);
      if (readable.length >= 32 && next(4) > 0) view.setBigUint64(16, EDGES[next(EDGES.length)], true);
    }
    const writable = [0, 1, 2, 513, 1025, 40_000][next(6)];
    driver.submit([{ send: readable }, { receive: writable }]);
    assert.ok(queue.pop(chain));
    queue.push(chain.head, 0);
    queue.publish();
    driver.complete();
    const verdict = request.parse(chain, limits);
    assert.ok([PROCEED, NO_STATUS, 1, 2].includes(verdict));
    if (verdict !== PROCEED) continue;
    const { type, sector, lengthBytes } = request;
    if (type === VIRTIO_BLK_T_IN) assert.equal(lengthBytes, writable - 1);
    if (type === VIRTIO_BLK_T_OUT) assert.equal(lengthBytes, readable.length - 16);
    if ([0, 1, 11, 13].includes(type) && lengthBytes > 0) {
      assert.ok(sector + lengthBytes / SECTOR_BYTES <= FUZZ_SECTORS, `sector ${sector}`);
    }
    if (limits.readonly) assert.ok([0, 4, 8].includes(type));
  }
});

Deno.test("block handler survives random rings: every chain is answered once or the device is broken", () => {
  for (let seed = 1; seed <= 40; seed++) {
    const next = random(seed * 7919);
    const rig = new BlockRig({ size: 16, indirect: false, diskBytes: FUZZ_SECTORS * SECTOR_BYTES });
    rig.disk.async = next(2) === 0;
    const base = rig.driver.descriptors;
    for (let step = 0; step < 60 && rig.faults.length === 0; step++) {
      const where = [base, base + next(4096), 0x10_0000 + next(0x10_0000), next(0x7fff_ffff), 0][next(5)];
      const length = [0, 1, 16, 512, 513, 4096, 0xffff_ffff][next(7)];
      rig.driver.describe(next(16), where, length, next(8), next(18));
      if (next(3) === 0) {
        rig.driver.offer(next(17));
        rig.handler.onKick(0);
      }
      if (next(10) === 0) rig.handler.drain();
    }
    rig.handler.close();
    let answers = 0;
    while (rig.driver.complete() !== undefined) answers++;
    assert.ok(answers <= 60);
    assert.equal(rig.disk.waiting, 0);
  }
});

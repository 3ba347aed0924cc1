import assert from "node:assert/strict";
import { GuestMemory } from "@vmm/memory/guest_memory.ts";
import type { Activation } from "@vmm/virtio/device.ts";
import type { PageAdvisor } from "@vmm/virtio/ports/memory.ts";
import { MockDriver } from "@vmm/virtio/testing/mock_driver.ts";
import { createBalloonHandler } from "./handler.ts";
import { balloonActualBytes, balloonModel, setBalloonTarget } from "./model.ts";

/** RAM of three regions: 1–2 MiB, with the rings, and two adjacent ones from 4 MiB. */
function setUp(result = 0) {
  const inflate = new MockDriver({ size: 128 });
  const deflate = new MockDriver({ size: 128 });
  const reporting = new MockDriver({ size: 32 });
  const log: string[] = [];
  const timers: (() => void)[] = [];
  const say = (word: string) => (region: { gpa: number }, offset: number, length: number) => {
    log.push(`${word} ${((region.gpa + offset) / 4096).toString(16)}+${length / 4096}`);
    return result;
  };
  const pages: PageAdvisor = { release: say("release"), want: say("want") };
  const region = (gpa: number, sizeBytes: number) => ({
    gpa,
    sizeBytes,
    hostAddress: 0n,
    buffer: new ArrayBuffer(0),
  });
  const activation = {
    id: "__balloon",
    memory: new GuestMemory([
      region(0x10_0000, 0x10_0000),
      region(0x40_0000, 0x8000),
      region(0x40_8000, 0x8000),
    ]),
    queues: [inflate.queue(), deflate.queue(), reporting.queue()],
    env: {
      timer: (_delayMs: number, fire: () => void) => {
        timers.push(fire);
        return () => void timers.splice(timers.indexOf(fire), 1);
      },
      post: ({ text }: { text: string }) => log.push(text),
    },
    interruptQueue: (index: number) => log.push(`interrupt ${index}`),
    fail: ({ fault }: { fault: string }) => log.push(`fail ${fault}`),
  } as unknown as Activation;
  const handler = createBalloonHandler(activation, { pages });
  return { inflate, deflate, reporting, log, timers, handler };
}

const list = (...pages: number[]) => ({ send: new Uint8Array(new Uint32Array(pages).buffer) });

Deno.test("balloonModel() offers what is configured", () => {
  const plain = balloonModel({
    sizeBytes: 0x1_2345,
    deflateOnOom: false,
    freePageReporting: false,
    iommu: false,
  });
  assert.deepEqual([plain.virtioId, plain.queueSizes, plain.features], [5, [128, 128], 1n << 32n]);
  assert.deepEqual([...plain.config], [0x12, 0, 0, 0, 0, 0, 0, 0]);
  assert.deepEqual([...plain.configWritable!], [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
  const full = balloonModel({ sizeBytes: 0, deflateOnOom: true, freePageReporting: true, iommu: true });
  assert.deepEqual([full.queueSizes, full.features], [[128, 128, 32], 3n << 32n | 0x24n]);
});

Deno.test("setBalloonTarget() and balloonActualBytes() read and write pages", () => {
  const config = new Uint8Array(8);
  setBalloonTarget(config, 0x1234_5678_9abc);
  assert.deepEqual([...config], [0x89, 0x67, 0x45, 0x23, 0, 0, 0, 0]);
  config.set([0, 0, 0, 0x80], 4);
  assert.equal(balloonActualBytes(config), 0x800_0000_0000);
});

Deno.test("inflating puts neighbouring pages together, in either direction", () => {
  const { inflate, handler, log } = setUp();
  inflate.submit([list(0x110, 0x111, 0x112, 0x1f0, 0x1ef, 0x1ee), list(0x1ed, 0x120)]);
  handler.onKick(0);
  assert.deepEqual(log, ["release 110+3", "release 1ed+4", "release 120+1", "interrupt 0"]);
  assert.deepEqual(inflate.complete(), { head: 0, writtenBytes: 0 });
});

Deno.test("deflating asks for the pages", () => {
  const { deflate, handler, log } = setUp();
  deflate.submit([list(0x110, 0x111)]);
  handler.onKick(1);
  assert.deepEqual(log, ["want 110+2", "interrupt 1"]);
});

Deno.test("a run goes over the seam of regions and leaves out what is not RAM", () => {
  const { inflate, handler, log } = setUp();
  inflate.submit([list(0x3ff, 0x400, 0x401, 0x402, 0x403, 0x404, 0x405, 0x406, 0x407, 0x408)]);
  inflate.submit([list(0x1ff, 0x200, 0xffff_ffff)]);
  handler.onKick(0);
  assert.deepEqual(log.filter((line) => line.startsWith("release")), [
    "release 400+8",
    "release 408+1",
    "release 1ff+1",
  ]);
  assert.equal(log.filter((line) => line.includes("is not RAM")).length, 1);
});

Deno.test("lists that are too long or not whole are left out, with a word once", () => {
  const { inflate, handler, log } = setUp();
  const long = list(...Array.from({ length: 257 }, (_, i) => 0x100 + i));
  inflate.submit([long, { send: new Uint8Array(6) }, list(0x110)]);
  inflate.submit([{ receive: 64 }]);
  handler.onKick(0);
  assert.deepEqual(log, [
    'Balloon "__balloon": a list of 1028 bytes is ignored',
    "release 110+1",
    "interrupt 0",
  ]);
});

Deno.test("one request brings 4,096 pages at most", () => {
  const { inflate, handler, log } = setUp();
  const every = list(...Array.from({ length: 256 }, (_, i) => 0x100 + (i * 2) % 256));
  inflate.submit(Array.from({ length: 20 }, () => every));
  handler.onKick(0);
  assert.equal(log.filter((line) => line.startsWith("release")).length, 4096);
});

Deno.test("reported pages are released, range by range", () => {
  const { reporting, handler, log } = setUp();
  reporting.describe(0, 0x14_0000, 0x8000, 3, 1);
  reporting.describe(1, 0x18_0000, 0x4_0000, 2);
  reporting.offer(0);
  handler.onKick(2);
  assert.deepEqual(log, ["release 140+8", "release 180+64", "interrupt 2"]);
  assert.deepEqual(reporting.complete(), { head: 0, writtenBytes: 0x4_8000 });
});

Deno.test("a host that refuses is mentioned once", () => {
  const { inflate, handler, log } = setUp(-22);
  inflate.submit([list(0x110, 0x150)]);
  handler.onKick(0);
  assert.deepEqual(log.filter((line) => line.includes("refuses")), [
    'Balloon "__balloon": the host refuses advice on pages: errno 22',
  ]);
});

Deno.test("many requests are served in turns, and drain() leaves the rest in the queue", () => {
  const { inflate, handler, timers } = setUp();
  for (let i = 0; i < 10; i++) inflate.submit([list(0x110)]);
  handler.onKick(0);
  assert.equal(timers.length, 1);
  handler.drain();
  assert.equal(timers.length, 0);
  let completed = 0;
  while (inflate.complete()) completed++;
  assert.equal(completed, 4);
});

Deno.test("random requests on every queue do no harm", () => {
  let seed = 3;
  const random = (below: number) => (seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0) % below;
  const { inflate, deflate, reporting, handler, log, timers } = setUp();
  for (let round = 0; round < 60; round++) {
    [inflate, deflate, reporting].forEach((driver, index) => {
      const send = Uint8Array.from({ length: random(64) }, () => random(256));
      const buffers = [{ send }, { send: send.subarray(0, random(64)) }, { receive: random(9000) }];
      driver.submit(buffers.slice(random(3)));
      handler.onKick(index);
      while (timers.length > 0) timers.shift()!();
      assert.notEqual(driver.complete(), undefined);
    });
  }
  assert.ok(!log.some((line) => line.startsWith("fail")));
});

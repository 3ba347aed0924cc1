import assert from "node:assert/strict";
import type { Activation } from "@vmm/virtio/device.ts";
import { MockDriver } from "@vmm/virtio/testing/mock_driver.ts";
import { createRtcHandler } from "./handler.ts";
import { rtcModel } from "./model.ts";

const NOW = 1_790_000_000_123_456_789n;

function setUp() {
  const driver = new MockDriver();
  const log: string[] = [];
  const activation = {
    queues: [driver.queue()],
    interruptQueue: (index: number) => log.push(`interrupt ${index}`),
    fail: ({ fault }: { fault: string }) => log.push(fault),
  } as unknown as Activation;
  return { driver, log, handler: createRtcHandler(activation, { nowNs: () => NOW }) };
}

/** A request of 16 bytes, cut to `length`. */
function request(type: number, clock = 0, length = 16): Uint8Array {
  const bytes = new Uint8Array(16);
  new DataView(bytes.buffer).setUint16(0, type, true);
  new DataView(bytes.buffer).setUint16(8, clock, true);
  return bytes.subarray(0, length);
}

function ask(send: Uint8Array, room = 16): { written: number; bytes: DataView } {
  const { driver, handler } = setUp();
  const { addresses } = driver.submit([{ send }, { receive: room }]);
  driver.at(addresses[1], room).fill(0xee);
  handler.onKick(0);
  return {
    written: driver.complete()!.writtenBytes,
    bytes: new DataView(driver.bytes.buffer, addresses[1] - 0x10_0000, room),
  };
}

Deno.test("rtcModel() offers one queue and neither alarms nor config", () => {
  const model = rtcModel({ iommu: false });
  assert.deepEqual([model.virtioId, model.queueSizes, model.features], [17, [256], 1n << 32n]);
  assert.equal(rtcModel({ iommu: true }).features, 3n << 32n);
  assert.equal(model.config.byteLength, 0);
});

Deno.test("the rtc handler names one UTC clock", () => {
  const config = ask(request(0x1000, 0, 8));
  assert.deepEqual([config.written, config.bytes.getUint8(0), config.bytes.getUint16(8, true)], [16, 0, 1]);
  const capability = ask(request(0x1001));
  assert.deepEqual([capability.written, capability.bytes.getBigUint64(0), capability.bytes.getUint8(8)], [
    16,
    0n,
    4,
  ]);
  const cross = ask(request(0x1002));
  assert.deepEqual([cross.written, cross.bytes.getBigUint64(0), cross.bytes.getBigUint64(8)], [16, 0n, 0n]);
});

Deno.test("the rtc handler reads the wall clock in nanoseconds", () => {
  const { written, bytes } = ask(request(1));
  assert.deepEqual([written, bytes.getBigUint64(0), bytes.getBigUint64(8, true)], [16, 0n, NOW]);
});

Deno.test("the rtc handler answers what it cannot do with a status", () => {
  for (const type of [1, 0x1001, 0x1002]) {
    const wrongClock = ask(request(type, 1));
    assert.deepEqual([wrongClock.written, wrongClock.bytes.getUint8(0)], [16, 3]);
    const short = ask(request(type, 0, 15));
    assert.deepEqual([short.written, short.bytes.getUint8(0)], [8, 4]);
  }
  const unknown = ask(request(2));
  assert.deepEqual([unknown.written, unknown.bytes.getUint8(0), unknown.bytes.getUint8(8)], [8, 2, 0xee]);
  const noRoom = ask(request(1), 12);
  assert.deepEqual([noRoom.written, noRoom.bytes.getUint8(0), noRoom.bytes.getUint8(8)], [8, 4, 0xee]);
  assert.equal(ask(request(1), 7).written, 0);
  assert.equal(ask(request(1, 0, 7)).written, 0);
});

Deno.test("the rtc handler survives random requests", () => {
  let seed = 7;
  const random = (below: number) => (seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0) % below;
  const { driver, handler, log } = setUp();
  for (let round = 0; round < 500; round++) {
    const send = Uint8Array.from({ length: random(20) }, () => random(256));
    if (random(2) === 0) send.set([[1, 0, 0x10], [0x10, 0, 0x10]][random(2)].slice(0, send.length));
    driver.submit([{ send }, { receive: random(20) }]);
    handler.onKick(0);
    const { writtenBytes } = driver.complete()!;
    assert.ok([0, 8, 16].includes(writtenBytes), String(writtenBytes));
  }
  assert.ok(!log.some((line) => line !== "interrupt 0"));
});

import assert from "node:assert/strict";
import type { Activation } from "@vmm/virtio/device.ts";
import { MappingTable } from "@vmm/virtio/iommu/mapping_table.ts";
import { type MockBuffer, MockDriver } from "@vmm/virtio/testing/mock_driver.ts";
import { createIommuHandler, REPORT_FAULT } from "./handler.ts";
import { iommuModel, lastAddress } from "./model.ts";

const OK = 0;
const INVAL = 4;
const RANGE = 5;
const NOENT = 6;
const END = 0xffff_ffff_ffff_ffffn;

/** A request's bytes: words of 4 (number) or 8 (bigint) bytes, the head first. */
function bytesOf(...fields: (number | bigint)[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(8 * fields.length));
  let at = 0;
  for (const field of fields) {
    if (typeof field === "bigint") view.setBigUint64(at, field, true);
    else view.setUint32(at, field, true);
    at += typeof field === "bigint" ? 8 : 4;
  }
  return new Uint8Array(view.buffer, 0, at);
}

function setUp(addressBits = 64) {
  const driver = new MockDriver();
  const events = new MockDriver();
  const table = MappingTable.create(2, 32);
  const endpoints = [8, 16].map((id) => table.addEndpoint(id));
  const log: string[] = [];
  const activation = {
    id: "__iommu",
    memory: driver.memory,
    queues: [driver.queue(), events.queue()],
    env: { timer: () => () => {} },
    interruptQueue: (index: number) => log.push(`interrupt ${index}`),
    fail: ({ fault }: { fault: string }) => log.push(fault),
  } as unknown as Activation;
  const handler = createIommuHandler(activation, { table, lastAddress: lastAddress(addressBits) });
  const exchange = (...buffers: MockBuffer[]) => {
    const { addresses } = driver.submit(buffers);
    buffers.forEach((buffer, i) => {
      if ("receive" in buffer) driver.at(addresses[i], buffer.receive).fill(0xee);
    });
    handler.onKick(0);
    const received = buffers.flatMap((buffer, i) =>
      "receive" in buffer ? [...driver.at(addresses[i], buffer.receive)] : []
    );
    return { writtenBytes: driver.complete()?.writtenBytes, received };
  };
  const request = (...fields: (number | bigint)[]) => {
    const { writtenBytes, received } = exchange({ send: bytesOf(...fields) }, { receive: 4 });
    assert.equal(writtenBytes, 4);
    assert.deepEqual(received.slice(1), [0, 0, 0]);
    return received[0];
  };
  return {
    driver,
    events,
    table,
    endpoints,
    log,
    handler,
    exchange,
    attach: (domain: number, endpoint: number, flags = 0) => request(1, domain, endpoint, flags, 0),
    detach: (domain: number, endpoint: number) => request(2, domain, endpoint, 0n),
    map: (domain: number, start: bigint, end: bigint, physical: bigint, flags = 3) =>
      request(3, domain, start, end, physical, flags),
    unmap: (domain: number, start: bigint, end: bigint) => request(4, domain, start, end, 0),
  };
}

Deno.test("iommuModel() offers the original's features and configuration", () => {
  const full = iommuModel(64);
  assert.deepEqual([full.virtioId, full.queueSizes, full.features], [23, [256, 256], 1n << 32n | 0x54n]);
  const words = [...new Uint32Array(full.config.slice().buffer)];
  assert.deepEqual(words, [0x20_1000, 0, 0, 0, 0, 0, 0, 0, 24, 0]);
  const narrow = iommuModel(40);
  assert.equal(narrow.features, 1n << 32n | 0x55n);
  assert.equal(new DataView(narrow.config.buffer).getBigUint64(16, true), 0xff_ffff_ffffn);
  const writable = [...narrow.configWritable!].flatMap((mask, at) => mask === 0 ? [] : [at]);
  assert.deepEqual(writable, [36]);
});

Deno.test("requests change the table", () => {
  const { table, endpoints, attach, detach, map, unmap } = setUp();
  const found = { first: 0, last: 0, target: 0, flags: 0 };
  assert.equal(attach(1, 8), OK);
  assert.equal(map(1, 0x1000n, 0x2fffn, 0x7000n, 1), OK);
  assert.equal(table.lookUp(endpoints[0], 2, found), true);
  assert.deepEqual(found, { first: 1, last: 2, target: 7, flags: 1 });
  assert.equal(unmap(1, 0x1000n, 0x2fffn), OK);
  assert.equal(table.lookUp(endpoints[0], 2, found), false);
  assert.equal(detach(1, 8), OK);
  assert.equal(map(1, 0x1000n, 0x2fffn, 0x7000n), NOENT);
});

Deno.test("of several faults the status names the one the original finds first", () => {
  const { attach, map, unmap } = setUp(40);
  const beyond = 1n << 40n;
  assert.equal(map(7, beyond, beyond + 0xfffn, 0n, 8), INVAL);
  assert.equal(map(7, beyond, beyond + 0xfffn, 0n), RANGE);
  assert.equal(unmap(7, 0n, beyond), RANGE);
  assert.equal(map(7, 0x1001n, 0x1fffn, 0n), NOENT);
  assert.equal(attach(1, 8, 1), OK);
  assert.equal(map(1, 0x1001n, 0x1fffn, 0n), INVAL);
  assert.equal(unmap(1, 0x2000n, 0x1fffn), INVAL);
  assert.deepEqual([attach(1, 16), attach(2, 16, 2), attach(2, 24)], [INVAL, INVAL, NOENT]);
});

Deno.test("addresses at the end of 64 bits do not wrap around", () => {
  const { attach, map, unmap } = setUp();
  attach(1, 8);
  assert.equal(map(1, 0n, END, 0n), RANGE);
  assert.equal(map(1, END - 0xfffn, END, 0n), RANGE);
  assert.equal(map(1, 0n, 0xfffn, END - 0xfffn), RANGE);
  assert.equal(map(1, 0n, 0x1fffn, END - 0x1fffn), RANGE);
  assert.equal(map(1, 0x2000n, 0x1fffn, 0n), RANGE);
  assert.equal(map(1, 0x1000n, 0xfffn, 0n), RANGE);
  assert.equal(map(1, END - 0x1fffn, END - 0x1000n, END - 0x1fffn), OK);
  assert.equal(unmap(1, 0n, END), RANGE);
  assert.equal(unmap(1, 0x1000n, END), OK);
  assert.equal(map(1, END - 0x1fffn, END - 0x1000n, 0n), OK);
});

Deno.test("what is no request is given back, what has a wrong length is invalid", () => {
  const { exchange } = setUp();
  const tail = { receive: 4 };
  const given = (...buffers: MockBuffer[]) => exchange(...buffers).writtenBytes;
  assert.equal(given({ send: bytesOf(9, 0, 0, 0, 0) }, tail), 0);
  assert.equal(given({ send: new Uint8Array(3) }, tail), 0);
  assert.equal(given(tail), 0);
  assert.equal(given({ send: bytesOf(1, 1, 8, 0, 0) }), 0);
  assert.equal(given({ send: bytesOf(1, 1, 8, 0, 0) }, { receive: 3 }), 0);
  for (const type of [1, 2, 3, 4, 5]) {
    const { received } = exchange({ send: bytesOf(type, 0) }, tail);
    assert.equal(received[0], INVAL);
  }
  assert.equal(exchange({ send: bytesOf(1, 1, 8, 0, 1) }, tail).received[0], INVAL);
});

Deno.test("buffers may be cut anywhere", () => {
  const { exchange } = setUp();
  const request = bytesOf(1, 1, 8, 0, 0);
  const parts = [request.subarray(0, 1), request.subarray(1, 10), request.subarray(10)];
  const answer = [{ receive: 1 }, { receive: 3 }];
  const { writtenBytes, received } = exchange(...parts.map((send) => ({ send })), ...answer);
  assert.deepEqual([writtenBytes, received], [4, [0, 0, 0, 0]]);
});

Deno.test("a probe tells where interrupts go", () => {
  const { exchange } = setUp();
  const send = bytesOf(5, 8, ...Array<bigint>(8).fill(0n));
  const { writtenBytes, received } = exchange({ send }, { receive: 28 });
  assert.equal(writtenBytes, 28);
  const view = new DataView(Uint8Array.from(received).buffer);
  assert.deepEqual([view.getUint16(0, true), view.getUint16(2, true), received[4]], [1, 20, 1]);
  assert.deepEqual([view.getBigUint64(8, true), view.getBigUint64(16, true)], [0xfee0_0000n, 0xfeef_ffffn]);
  assert.equal(view.getUint32(24, true), OK);
  assert.equal(exchange({ send }, { receive: 27 }).writtenBytes, 0);
});

Deno.test("a reset detaches, a broken queue does not", () => {
  for (const breaks of [false, true]) {
    const { driver, table, endpoints, log, handler, attach } = setUp();
    attach(1, 8);
    if (breaks) driver.setAvailableIndex(999);
    handler.onKick(0);
    handler.drain();
    handler.close();
    const found = { first: 0, last: 0, target: 0, flags: 0 };
    assert.equal(table.lookUp(endpoints[0], 5, found), !breaks);
    assert.equal(log.some((line) => line.includes("ahead")), breaks);
  }
});

Deno.test("a refused access is told on the event queue, if there is a buffer for it", () => {
  const { events, handler, log, attach } = setUp();
  const report = { kind: REPORT_FAULT, endpoint: 1, high: 2, low: 0x3000, access: 2 };
  handler.onCommand!(report);
  assert.equal(events.complete(), undefined);
  const words = () => {
    const { addresses } = events.submit([{ receive: 24 }]);
    handler.onCommand!(report);
    assert.equal(events.complete()?.writtenBytes, 24);
    return [...new Uint32Array(events.at(addresses[0], 24).slice().buffer)];
  };
  assert.deepEqual(words(), [1, 0x102, 16, 0, 0x3000, 2]); // in no domain
  attach(1, 16);
  assert.deepEqual(words(), [2, 0x102, 16, 0, 0x3000, 2]);
  events.submit([{ receive: 23 }]);
  handler.onCommand!(report);
  assert.equal(events.complete()?.writtenBytes, 0);
  assert.equal(log.filter((line) => line === "interrupt 1").length, 3);
  events.setAvailableIndex(999);
  handler.onCommand!(report);
  assert.match(log.at(-1)!, /ahead/);
});

Deno.test("random requests do no harm", () => {
  let seed = 5;
  const random = (below: number) =>
    ((seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0) >>> 8) % below;
  const { exchange, log } = setUp();
  const sizes = [20, 20, 36, 28, 72];
  for (let round = 0; round < 400; round++) {
    const type = 1 + random(6);
    const send = new Uint8Array(random(10) === 0 ? random(80) : sizes[type - 1] ?? 20);
    for (let i = 0; i < send.length; i++) if (random(3) === 0) send[i] = random(4) === 0 ? 0xff : random(256);
    if (send.length > 0) send[0] = type;
    const { writtenBytes } = exchange({ send }, { receive: random(8) === 0 ? random(40) : 28 });
    assert.ok(writtenBytes === 0 || writtenBytes === 4 || writtenBytes === 28);
  }
  assert.deepEqual(new Set(log), new Set(["interrupt 0"]));
});

import assert from "node:assert/strict";
import type { Activation } from "@vmm/virtio/device.ts";
import { FLUSH_PENDING, type FlushPort } from "@vmm/virtio/ports/flush.ts";
import { MockDriver } from "@vmm/virtio/testing/mock_driver.ts";
import { createPmemHandler } from "./handler.ts";
import { pmemModel } from "./model.ts";

const COMPLETION_FD = 9;

/** A file whose flushes pend, or have the given results at once. */
function setUp(results?: number[]) {
  const driver = new MockDriver();
  const log: string[] = [];
  let ready = () => {};
  const file: FlushPort & { results: number[] } = {
    results: [],
    completionFd: results === undefined ? COMPLETION_FD : -1,
    start: () => {
      log.push("start");
      return results === undefined ? FLUSH_PENDING : results.shift()!;
    },
    finish: () => {
      log.push("finish");
      return file.results.shift() ?? 0;
    },
  };
  const activation = {
    id: "_pmem0",
    memory: driver.memory,
    queues: [driver.queue()],
    env: {
      watch: (_fd: number, _events: number, call: () => void) => ready = call,
      unwatch: (fd: number) => log.push(`unwatch ${fd}`),
      post: ({ text }: { text: string }) => log.push(text),
    },
    interruptQueue: () => log.push("interrupt"),
    fail: ({ fault }: { fault: string }) => log.push(fault),
  } as unknown as Activation;
  const handler = createPmemHandler(activation, { file });
  const submit = (type = 0) => {
    const { addresses } = driver.submit([{ send: Uint8Array.of(type, 0, 0, 0) }, { receive: 4 }]);
    driver.at(addresses[1], 4).fill(0xee);
    return () => driver.view.getUint32(addresses[1] - 0x10_0000, true);
  };
  return { driver, handler, log, file, submit, ready: () => ready() };
}

Deno.test("pmemModel() tells where the memory lies", () => {
  const model = pmemModel({ start: 0x3fff_ffa0_0000, sizeBytes: 0x40_0000, iommu: false });
  assert.deepEqual([model.virtioId, model.queueSizes, model.features], [27, [256], 1n << 32n]);
  const words = new BigUint64Array(model.config.slice().buffer);
  assert.deepEqual([...words], [0x3fff_ffa0_0000n, 0x40_0000n]);
  assert.equal(pmemModel({ start: 0, sizeBytes: 0, iommu: true }).features, 3n << 32n);
});

Deno.test("a flush is answered when the file is durable", () => {
  const { driver, handler, log, submit, ready } = setUp();
  const status = submit();
  handler.onKick(0);
  assert.deepEqual([driver.complete(), status()], [undefined, 0xeeee_eeee]);
  ready();
  assert.deepEqual([driver.complete(), status()], [{ head: 0, writtenBytes: 4 }, 0]);
  assert.deepEqual(log, ["start", "finish", "interrupt"]);
});

Deno.test("requests during a flush share the next one", () => {
  const { driver, handler, log, submit, ready } = setUp();
  submit();
  handler.onKick(0);
  submit();
  submit();
  handler.onKick(0);
  handler.onKick(0);
  assert.deepEqual(log, ["start"]);
  ready();
  assert.notEqual(driver.complete(), undefined);
  assert.equal(driver.complete(), undefined);
  ready();
  assert.notEqual(driver.complete(), undefined);
  assert.notEqual(driver.complete(), undefined);
  assert.equal(log.filter((line) => line === "start").length, 2);
});

Deno.test("a failing flush is EIO, and told once", () => {
  const { driver, handler, log, file, submit, ready } = setUp();
  for (let i = 0; i < 2; i++) {
    file.results.push(-28);
    const status = submit();
    handler.onKick(0);
    ready();
    assert.deepEqual([driver.complete()?.writtenBytes, status()], [4, 1]);
  }
  const told = log.filter((line) => line.includes("errno"));
  assert.deepEqual(told, ['Flushing the file of "_pmem0" failed with errno 28']);
});

Deno.test("a flush that is over at once needs no completion", () => {
  const { driver, handler, submit } = setUp([0, -5]);
  const good = submit();
  handler.onKick(0);
  const bad = submit();
  handler.onKick(0);
  assert.deepEqual([good(), bad()], [0, 1]);
  assert.equal([driver.complete(), driver.complete()].includes(undefined), false);
});

Deno.test("drain() waits for all flushes, close() lets go of the file", () => {
  const { driver, handler, log, submit } = setUp();
  submit();
  handler.onKick(0);
  submit();
  handler.onKick(0);
  handler.drain();
  assert.equal([driver.complete(), driver.complete()].includes(undefined), false);
  handler.close();
  assert.equal(log.at(-1), "unwatch 9");
});

Deno.test("what is no flush is refused or returned empty", () => {
  const { driver, handler, submit } = setUp();
  const unknown = submit(7);
  driver.submit([{ send: new Uint8Array(3) }, { receive: 4 }]);
  driver.submit([{ send: new Uint8Array(4) }, { receive: 3 }]);
  driver.submit([{ receive: 8 }]);
  driver.submit([{ send: new Uint8Array(8) }]);
  handler.onKick(0);
  assert.deepEqual([driver.complete()?.writtenBytes, unknown()], [4, 1]);
  for (let i = 0; i < 4; i++) assert.equal(driver.complete()?.writtenBytes, 0);
});

Deno.test("a driver that offers the same buffer again and again is stopped", () => {
  const { driver, handler, log, submit } = setUp();
  submit();
  for (let i = 0; i < 3; i++) {
    handler.onKick(0);
    for (let j = 0; j < 8; j++) driver.offer(0);
  }
  handler.onKick(0);
  assert.ok(log.includes("more requests than the queue holds"));
});

Deno.test("random requests on the pmem queue do no harm", () => {
  let seed = 11;
  const random = (below: number) => (seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0) % below;
  const { driver, handler, log, ready } = setUp();
  for (let round = 0; round < 300; round++) {
    const send = Uint8Array.from({ length: random(8) }, () => random(3) === 0 ? random(256) : 0);
    driver.submit([{ send }, { receive: random(8) }]);
    handler.onKick(0);
    if (driver.complete() !== undefined) continue;
    ready();
    assert.notEqual(driver.complete(), undefined);
  }
  assert.deepEqual(new Set(log), new Set(["start", "finish", "interrupt"]));
});

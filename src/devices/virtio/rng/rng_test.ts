import assert from "node:assert/strict";
import type { Activation } from "@vmm/virtio/device.ts";
import type { ByteSource } from "@vmm/virtio/ports/bytes.ts";
import { MockDriver } from "@vmm/virtio/testing/mock_driver.ts";
import { createRngHandler } from "./handler.ts";
import { rngModel } from "./model.ts";

const EAGAIN = 11;

/** A device on a source that answers from a list: bytes to give, or `-errno`. */
function setUp(answers: number[], pollFd = 9) {
  const driver = new MockDriver();
  const log: string[] = [];
  const timers: (() => void)[] = [];
  let ready: (events: number) => void = () => {};
  const source: ByteSource = {
    pollFd,
    read: (iov, count) => {
      const words = new BigUint64Array(iov.buffer, 0, 2 * count);
      const room = Number(words[1]);
      const answer = answers.shift() ?? room;
      for (let i = 0; i < answer; i++) driver.at(Number(words[0]) + i, 1)[0] = 0xa5;
      return answer;
    },
  };
  const activation: Activation = {
    id: "__rng",
    memory: driver.memory,
    queues: [driver.queue()],
    featuresLow: 0,
    featuresHigh: 1,
    backend: undefined,
    config: new Uint8Array(0),
    env: {
      watch: (fd, _events, call) => {
        log.push(`watch ${fd}`);
        ready = call;
      },
      rewatch: () => {},
      unwatch: (fd) => log.push(`unwatch ${fd}`),
      timer: (delayMs, fire) => {
        timers.push(fire);
        log.push(`timer ${delayMs}`);
        return () => log.push("cancelled");
      },
      post: (event) => log.push(String(event.text)),
    },
    interruptQueue: (index) => log.push(`interrupt ${index}`),
    interruptConfig: () => {},
    fail: ({ fault }) => log.push(`fail ${fault}`),
  };
  const handler = createRngHandler(activation, source);
  return { driver, handler, log, timers, ready: () => ready(1) };
}

Deno.test("rngModel() offers one queue and no config", () => {
  const model = rngModel({ iommu: false });
  assert.deepEqual(model.queueSizes, [256]);
  assert.equal(model.features, 1n << 32n);
  assert.equal(rngModel({ iommu: true }).features, 3n << 32n);
  assert.equal(model.config.byteLength, 0);
});

Deno.test("the rng handler fills requests and interrupts once per batch", () => {
  const { driver, handler, log } = setUp([]);
  const requests = [driver.submit([{ receive: 32 }]), driver.submit([{ receive: 5 }])];
  handler.onKick(0);
  assert.deepEqual(driver.complete(), { head: requests[0].head, writtenBytes: 32 });
  assert.deepEqual(driver.complete(), { head: requests[1].head, writtenBytes: 5 });
  assert.deepEqual([...driver.at(requests[1].addresses[0], 6)], [0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0]);
  assert.deepEqual(log, ["interrupt 0"]);
});

Deno.test("the rng handler reports short reads and cuts long requests", () => {
  const { driver, handler } = setUp([3]);
  driver.submit([{ receive: 32 }]);
  driver.submit([{ receive: 0x2_0000 }]);
  handler.onKick(0);
  assert.equal(driver.complete()?.writtenBytes, 3);
  assert.equal(driver.complete()?.writtenBytes, 0x4000);
});

Deno.test("the rng handler waits for a source that has nothing now", () => {
  const { driver, handler, log, ready } = setUp([-EAGAIN]);
  driver.submit([{ receive: 8 }]);
  handler.onKick(0);
  handler.onKick(0);
  assert.equal(driver.complete(), undefined);
  ready();
  assert.equal(driver.complete()?.writtenBytes, 8);
  assert.deepEqual(log, ["watch 9", "unwatch 9", "interrupt 0"]);
});

Deno.test("the rng handler retries a source that cannot be polled", () => {
  const { driver, handler, log, timers } = setUp([-EAGAIN], -1);
  driver.submit([{ receive: 8 }]);
  handler.onKick(0);
  assert.deepEqual(log, ["timer 100"]);
  timers[0]();
  assert.equal(driver.complete()?.writtenBytes, 8);
  handler.close();
  assert.ok(!log.includes("cancelled"));
});

Deno.test("the rng handler fails the device when a watch finds its queue broken", () => {
  const { driver, handler, log, ready } = setUp([-EAGAIN]);
  driver.submit([{ receive: 8 }]);
  handler.onKick(0);
  driver.submit([{ receive: 8 }]);
  driver.setAvailableIndex(200);
  ready();
  assert.equal(driver.complete()?.writtenBytes, 8);
  assert.match(log.at(-1)!, /^fail available index 200/);
});

Deno.test("the rng handler says once that its source ended", () => {
  const { driver, handler, log } = setUp([0]);
  driver.submit([{ receive: 8 }]);
  handler.onKick(0);
  handler.onKick(0);
  assert.equal(driver.complete(), undefined);
  assert.deepEqual(log, ['The entropy source of "__rng" gives nothing more: its file has ended']);
});

Deno.test("the rng handler returns requests without room empty", () => {
  const { driver, handler } = setUp([]);
  driver.submit([{ send: new Uint8Array(4) }]);
  handler.onKick(0);
  assert.equal(driver.complete()?.writtenBytes, 0);
});

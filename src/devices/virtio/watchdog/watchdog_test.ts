import assert from "node:assert/strict";
import type { Activation } from "@vmm/virtio/device.ts";
import { MockDriver } from "@vmm/virtio/testing/mock_driver.ts";
import { createWatchdogHandler, WATCHDOG_STATE } from "./handler.ts";
import { watchdogModel } from "./model.ts";

function setUp(enabled = false) {
  const driver = new MockDriver({ size: 8 });
  const log: string[] = [];
  const timers: { atMs: number; fire: () => void }[] = [];
  const clock = { nowMs: 0 };
  const activation = {
    id: "__watchdog",
    queues: [driver.queue()],
    env: {
      timer: (delayMs: number, fire: () => void) => {
        const timer = { atMs: clock.nowMs + delayMs, fire };
        timers.push(timer);
        return () => void timers.splice(timers.indexOf(timer), 1);
      },
      post: (event: { kind: string; text?: string }) => log.push(event.text ?? event.kind),
    },
    interruptQueue: () => log.push("interrupt"),
    fail: ({ fault }: { fault: string }) => log.push(fault),
  } as unknown as Activation;
  const handler = createWatchdogHandler(activation, { enabled, nowMs: () => clock.nowMs });
  /** Moves the clock, firing what comes due. */
  const pass = (ms: number) => {
    const end = clock.nowMs + ms;
    for (;;) {
      const next = timers.findIndex(({ atMs }) => atMs <= end);
      if (next < 0) break;
      const [timer] = timers.splice(next, 1);
      clock.nowMs = timer.atMs;
      timer.fire();
    }
    clock.nowMs = end;
  };
  const ping = () => {
    const { addresses } = driver.submit([{ receive: 4 }]);
    handler.onKick(0);
    return { done: driver.complete(), byte: driver.at(addresses[0], 1)[0] };
  };
  return { driver, handler, log, timers, clock, pass, ping };
}

Deno.test("watchdogModel() offers one queue of eight", () => {
  const model = watchdogModel({ iommu: false });
  assert.deepEqual([model.virtioId, model.queueSizes, model.features], [35, [8], 1n << 32n]);
  assert.equal(watchdogModel({ iommu: true }).features, 3n << 32n);
  assert.equal(model.config.byteLength, 0);
});

Deno.test("a ping is answered with a one", () => {
  const { ping, log } = setUp();
  assert.deepEqual(ping(), { done: { head: 0, writtenBytes: 4 }, byte: 1 });
  assert.deepEqual(log, ["interrupt"]);
});

Deno.test("a guest that never pings is not watched, and one that pings is left alone", () => {
  const { pass, ping, log, timers, handler } = setUp();
  handler.onKick(0);
  pass(100_000);
  assert.deepEqual([timers.length, log], [0, []]);
  for (let i = 0; i < 10; i++) {
    ping();
    pass(15_000);
  }
  assert.ok(!log.includes("reset"));
});

Deno.test("the second tick after the last ping resets the VM", () => {
  const { pass, ping, log } = setUp();
  ping();
  pass(29_999);
  assert.deepEqual(log, ["interrupt"]);
  pass(1);
  assert.deepEqual(log, ["interrupt", "Watchdog triggered: 30 seconds since last ping", "reset"]);
});

Deno.test("a pause is not counted", () => {
  const { pass, ping, log, handler, timers, clock } = setUp();
  ping();
  pass(10_000);
  handler.drain();
  assert.equal(timers.length, 0);
  clock.nowMs += 1_000_000;
  handler.onKick(0);
  pass(29_000);
  assert.ok(!log.includes("reset"));
  pass(1_000);
  assert.ok(log.includes("reset"));
});

Deno.test("a restored watch goes on without a ping, and close() ends it", () => {
  const { pass, log, handler, timers } = setUp(true);
  assert.deepEqual(handler.onCommand!({ kind: WATCHDOG_STATE }), { enabled: true });
  handler.onKick(0);
  pass(15_000);
  handler.close();
  assert.deepEqual([timers.length, log], [0, []]);
});

Deno.test("a ping without room breaks the device", () => {
  const { driver, handler, log } = setUp();
  driver.submit([{ send: new Uint8Array(4) }]);
  handler.onKick(0);
  assert.deepEqual(log, ["a ping needs a buffer to write to"]);
  assert.deepEqual(handler.onCommand!({ kind: WATCHDOG_STATE }), { enabled: false });
});

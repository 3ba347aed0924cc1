import assert from "node:assert/strict";
import type { Activation } from "../device.ts";
import { MockDriver } from "../testing/mock_driver.ts";
import { LATER, QueueServer, type Serve } from "./server.ts";

function setUp(serve: Serve, turn: number) {
  const driver = new MockDriver({ size: 64 });
  const log: string[] = [];
  const timers: (() => void)[] = [];
  const activation = {
    queues: [driver.queue()],
    env: {
      timer: (_delayMs: number, fire: () => void) => {
        timers.push(fire);
        return () => void timers.splice(timers.indexOf(fire), 1);
      },
    },
    interruptQueue: (index: number) => log.push(`interrupt ${index}`),
    fail: ({ fault }: { fault: string }) => log.push(fault),
  } as unknown as Pick<Activation, "queues" | "env" | "interruptQueue" | "fail">;
  const server = new QueueServer(activation, 0, serve, turn);
  const completed = () => {
    let count = 0;
    while (driver.complete() !== undefined) count++;
    return count;
  };
  return { driver, log, timers, server, completed };
}

Deno.test("QueueServer answers a turn's worth of requests at a time", () => {
  const { driver, log, timers, server, completed } = setUp(() => 0, 10);
  for (let i = 0; i < 25; i++) driver.submit([{ receive: 4 }]);
  server.kick();
  assert.deepEqual([completed(), timers.length], [10, 1]);
  server.kick();
  assert.equal(completed(), 0);
  timers.shift()!();
  assert.deepEqual([completed(), timers.length], [10, 1]);
  server.stop();
  assert.equal(timers.length, 0);
  server.kick();
  assert.deepEqual([completed(), timers.length], [5, 0]);
  assert.equal(log.length, 3);
});

Deno.test("QueueServer leaves requests for later and completes them in any order", () => {
  const heads: number[] = [];
  const { driver, log, server } = setUp((chain) => {
    heads.push(chain.head);
    return LATER;
  }, 10);
  driver.submit([{ receive: 4 }]);
  driver.submit([{ receive: 4 }]);
  server.kick();
  assert.deepEqual([driver.complete(), log], [undefined, []]);
  server.complete(heads[1], 4);
  assert.deepEqual([driver.complete(), log], [{ head: heads[1], writtenBytes: 4 }, ["interrupt 0"]]);
  server.complete(heads[0], 0);
  assert.deepEqual(driver.complete(), { head: heads[0], writtenBytes: 0 });
});

Deno.test("QueueServer reports a broken queue", () => {
  const { driver, log, timers, server } = setUp(() => 0, 10);
  driver.offer(99);
  server.kick();
  assert.deepEqual([log, timers.length], [["descriptor 99 of a table of 64"], 0]);
});

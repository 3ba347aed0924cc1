import assert from "node:assert/strict";
import { placeQueues, type QueuesToPlace, spareThreads } from "./io_placement.ts";

const disk = (queues: number, more: Partial<QueuesToPlace> = {}): QueuesToPlace => ({
  id: "_disk0",
  kind: "block",
  kickFds: { length: queues },
  queueGroups: Array.from({ length: queues }, (_, queue) => [queue]),
  ...more,
});
const shares = (device: QueuesToPlace, spare: number) =>
  placeQueues(device, spare).shares.map(({ queues, thread }) => [thread?.name ?? "io0", ...queues]);

Deno.test("placeQueues() leaves a device with the first Worker when no thread is to spare", () => {
  assert.deepEqual(shares(disk(1), 3), [["io0", 0]]);
  assert.deepEqual(shares(disk(4), 0), [["io0", 0, 1, 2, 3]]);
  assert.deepEqual(shares({ id: "_rng", kind: "rng", kickFds: { length: 1 } }, 3), [["io0", 0]]);
});

Deno.test("placeQueues() spreads the queues of one device over spare threads", () => {
  assert.deepEqual(shares(disk(4), 1), [["io0", 0, 2], ["_disk0_q1", 1, 3]]);
  assert.deepEqual(shares(disk(4), 9), [["io0", 0], ["_disk0_q1", 1], ["_disk0_q2", 2], ["_disk0_q3", 3]]);
});

Deno.test("placeQueues() gives a queue that is bound to CPUs its own thread", () => {
  const queueAffinity = [{ queue: 0, cpus: [0, 2] }, { queue: 2, cpus: [3] }];
  const { shares } = placeQueues(disk(3, { queueAffinity }), 0);
  assert.deepEqual(shares, [
    { queues: [0], thread: { name: "_disk0_q0", cpus: [0, 2] } },
    { queues: [2], thread: { name: "_disk0_q2", cpus: [3] } },
    { queues: [1] },
  ]);
});

Deno.test("placeQueues() keeps the leading queue first, wherever it is served", () => {
  assert.deepEqual(shares(disk(2, { queueAffinity: [{ queue: 1, cpus: [0] }] }), 0), [
    ["io0", 0],
    ["_disk0_q1", 1],
  ]);
});

Deno.test("placeQueues() keeps queues of one group on one thread, bound to all their CPUs, and says so", () => {
  const queueAffinity = [{ queue: 0, cpus: [1] }, { queue: 1, cpus: [0, 1] }];
  const placed = placeQueues(disk(2, { queueGroups: undefined, queueAffinity }), 4);
  assert.deepEqual(placed.shares, [{ queues: [0, 1], thread: { name: "_disk0_q0", cpus: [0, 1] } }]);
  assert.match(placed.warnings.join(), /_disk0: queues 0, 1 have to be served by one thread/);
});

Deno.test("placeQueues() names a thread of queue pairs, and never cuts the queue off", () => {
  const net = { id: "_net1", kind: "net", kickFds: { length: 5 }, queueGroups: [[0, 1, 4], [2, 3]] };
  assert.deepEqual(shares(net, 1), [["io0", 0, 1, 4], ["_net1_qp1", 2, 3]]);
  assert.equal(shares({ ...net, id: "a-very-long-identifier" }, 1)[1][0], "a-very-long_qp1");
});

Deno.test("placeQueues() ignores affinity for queues that are not there", () => {
  assert.deepEqual(shares(disk(1, { queueAffinity: [{ queue: 7, cpus: [0] }] }), 0), [["io0", 0]]);
});

Deno.test("spareThreads() leaves CPUs to guests and has a limit", () => {
  assert.deepEqual([1, 2, 4, 8, 64].map(spareThreads), [0, 0, 1, 3, 4]);
});

/** What hostile guests and programs cannot do: use up memory, descriptors or time, or keep others away. */
import assert from "node:assert/strict";
import { type FakeStream, VsockRig } from "./testing/vsock_rig.ts";
import {
  VIRTIO_VSOCK_OP_REQUEST as REQUEST,
  VIRTIO_VSOCK_OP_RESPONSE as RESPONSE,
  VIRTIO_VSOCK_OP_RST as RST,
  VIRTIO_VSOCK_OP_RW as RW,
} from "./spec.ts";

const MAX = 1023;
const PORT = 52;
const RETRY_MS = 20;
const EAGAIN = 11;

const open = (streams: readonly FakeStream[]) => streams.filter((stream) => !stream.closed).length;
const taken = (rig: VsockRig) => {
  while (rig.tx.complete() !== undefined);
};

Deno.test("programs that say nothing make room for those that do", () => {
  const rig = new VsockRig();
  rig.offer(4);
  for (let i = 0; i < MAX + 200; i++) {
    rig.backlog.push(rig.stream());
    if (i % 10 === 0) rig.pump();
  }
  rig.pump();
  assert.equal(open(rig.streams), MAX);
  assert.deepEqual([rig.streams[199].closed, rig.streams[200].closed], [true, false]);
  const program = rig.stream();
  program.type("CONNECT 7\n");
  rig.backlog.push(program);
  rig.pump();
  assert.deepEqual(rig.operations(), [REQUEST]);
  assert.equal(program.closed, false);
  rig.services.set(PORT, () => rig.stream());
  rig.send({ op: REQUEST, hostPort: PORT, guestPort: 1 });
  assert.deepEqual(rig.operations(), [RESPONSE]);
  assert.equal(open(rig.streams), MAX);
});

Deno.test("a program that never ends its line is dropped after a line's length", () => {
  const rig = new VsockRig();
  const program = rig.stream();
  program.type("CONNECT " + "0".repeat(10_000));
  rig.backlog.push(program);
  rig.pump();
  assert.equal(program.closed, true);
  assert.ok(program.incoming.length > 9_000);
});

Deno.test("a guest that opens connections without end gets so many, and resets", () => {
  const rig = new VsockRig();
  rig.services.set(PORT, () => rig.stream());
  const operations = new Map<number, number>();
  for (let i = 0; i < 1500; i++) {
    rig.offer(1, 44);
    rig.send({ op: REQUEST, hostPort: PORT, guestPort: i });
    for (const op of rig.operations()) operations.set(op, (operations.get(op) ?? 0) + 1);
    taken(rig);
  }
  assert.deepEqual([...operations], [[RESPONSE, MAX], [RST, 1500 - MAX]]);
  assert.equal(open(rig.streams), MAX);
});

Deno.test("a guest without buffers that opens and resets for ever leaves nothing behind", () => {
  const rig = new VsockRig();
  rig.services.set(PORT, () => rig.stream());
  for (let i = 0; i < 500; i++) {
    rig.send({ op: REQUEST, hostPort: PORT, guestPort: 1 }, { op: RST, hostPort: PORT, guestPort: 1 });
    taken(rig);
  }
  assert.equal(open(rig.streams), 0);
  rig.send({ op: REQUEST, hostPort: PORT, guestPort: 2 });
  // the one answer that is due comes first: nothing is queued before it
  rig.offer(1);
  assert.deepEqual(rig.received().map(({ op, guestPort }) => [op, guestPort]), [[RESPONSE, 2]]);
});

Deno.test("busy services are asked again a few at a time", () => {
  const rig = new VsockRig();
  let asked = 0;
  rig.services.set(PORT, () => {
    asked++;
    return -EAGAIN;
  });
  for (let i = 0; i < 200; i++) {
    rig.send({ op: REQUEST, hostPort: PORT, guestPort: i });
    taken(rig);
  }
  assert.equal(asked, 200);
  rig.fire(RETRY_MS);
  assert.equal(asked, 232);
});

Deno.test("a guest whose credit lies is sent no more than it says it has, and what it sends is bounded", () => {
  const rig = new VsockRig();
  const stream = rig.stream();
  rig.services.set(PORT, () => stream);
  rig.offer(64);
  rig.send({ op: REQUEST, hostPort: PORT, guestPort: 1, bufAlloc: 100 });
  stream.type("x".repeat(1000));
  rig.pump();
  const sent = () => rig.received().reduce((sum, { data }) => sum + data.length, 0);
  assert.equal(sent(), 100);
  // more taken than was ever given: no room at all
  rig.send({ op: RW, hostPort: PORT, guestPort: 1, bufAlloc: 100, fwdCnt: 5000, data: "a" });
  assert.equal(sent(), 0);
  stream.room = 0;
  for (let i = 0; i < 40; i++) {
    rig.send({ op: RW, hostPort: PORT, guestPort: 1, bufAlloc: 100, fwdCnt: 0, data: "y".repeat(4000) });
    taken(rig);
  }
  assert.equal(stream.closed, true);
  assert.ok(rig.operations().includes(RST));
});

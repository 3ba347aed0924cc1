import assert from "node:assert/strict";
import { VSOCK_CONNECTIONS, VSOCK_TRANSPORT_RESET } from "./handler.ts";
import { vsockModel } from "./model.ts";
import { SEND_BUFFER_BYTES } from "./send_buffer.ts";
import * as op from "./spec.ts";
import { encode, type FakeStream, VsockRig } from "./testing/vsock_rig.ts";

const REQUEST = op.VIRTIO_VSOCK_OP_REQUEST;
const RESPONSE = op.VIRTIO_VSOCK_OP_RESPONSE;
const RST = op.VIRTIO_VSOCK_OP_RST;
const SHUTDOWN = op.VIRTIO_VSOCK_OP_SHUTDOWN;
const RW = op.VIRTIO_VSOCK_OP_RW;
const CREDIT_UPDATE = op.VIRTIO_VSOCK_OP_CREDIT_UPDATE;
const CREDIT_REQUEST = op.VIRTIO_VSOCK_OP_CREDIT_REQUEST;
const RECEIVE = op.VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE;
const SEND = op.VIRTIO_VSOCK_SHUTDOWN_F_SEND;
const FIRST_PROGRAM_PORT = 0x4000_0000;
const TICK = 500;
const RETRY = 20;

/** A connection of the guest's port 1000 to service 52, open. */
function guestConnected(
  bufAlloc?: number,
): { rig: VsockRig; stream: FakeStream; ports: { hostPort: number; guestPort: number } } {
  const rig = new VsockRig();
  const stream = rig.stream();
  rig.services.set(52, () => stream);
  rig.offer(200);
  const ports = { hostPort: 52, guestPort: 1000 };
  rig.send({ op: REQUEST, ...ports, bufAlloc });
  assert.deepEqual(rig.operations(), [RESPONSE]);
  return { rig, stream, ports };
}

/** A program's connection to the guest's port 16, open. */
function hostConnected() {
  const rig = new VsockRig();
  const stream = rig.stream();
  rig.offer(200);
  stream.type("CONNECT 16\n");
  rig.backlog.push(stream);
  rig.pump();
  const ports = { hostPort: FIRST_PROGRAM_PORT, guestPort: 16 };
  const [request] = rig.received();
  assert.deepEqual([request.op, request.hostPort, request.guestPort], [REQUEST, ports.hostPort, 16]);
  rig.send({ op: RESPONSE, ...ports });
  assert.equal(stream.text, `OK ${FIRST_PROGRAM_PORT}\n`);
  stream.got.length = 0;
  return { rig, stream, ports };
}

Deno.test("vsockModel() has the guest's context id and uses buffers in order", () => {
  const model = vsockModel({ cid: 0xfedc_ba98, iommu: false });
  assert.deepEqual([model.virtioId, model.queueSizes], [19, [256, 256, 256]]);
  assert.equal(model.features, 1n << 32n | 1n << 35n);
  assert.deepEqual([...model.config], [0x98, 0xba, 0xdc, 0xfe, 0, 0, 0, 0]);
  assert.equal(vsockModel({ cid: 3, iommu: true }).features, 1n << 32n | 1n << 33n | 1n << 35n);
});

Deno.test("the guest connects to a service, and bytes go both ways", () => {
  const { rig, stream, ports } = guestConnected();
  rig.send({ op: RW, ...ports, data: "to the host" });
  assert.equal(stream.text, "to the host");
  stream.type("to the guest");
  rig.pump();
  const [packet] = rig.received();
  assert.deepEqual(packet, {
    op: RW,
    ...ports,
    flags: 0,
    bufAlloc: SEND_BUFFER_BYTES,
    fwdCnt: 11,
    data: "to the guest",
  });
  assert.deepEqual(rig.log, []);
});

Deno.test("a port nobody serves, an unknown connection, another kind of socket: reset", () => {
  const rig = new VsockRig();
  rig.offer(10);
  const ports = { hostPort: 7, guestPort: 8 };
  rig.send({ op: REQUEST, ...ports }, { op: RW, ...ports, data: "x" }, { op: REQUEST, ...ports, type: 2 });
  assert.deepEqual(
    rig.received().map((packet) => [packet.op, packet.hostPort, packet.guestPort, packet.bufAlloc]),
    [
      [RST, 7, 8, 0],
      [RST, 7, 8, 0],
      [RST, 7, 8, 0],
    ],
  );
  rig.send({ op: RST, ...ports }, { op: REQUEST, ...ports, dstCid: 3 });
  assert.deepEqual(rig.operations(), []);
});

Deno.test("a program connects to the guest, and what follows its command reaches the guest", () => {
  const rig = new VsockRig();
  const stream = rig.stream();
  rig.offer(10);
  rig.backlog.push(stream);
  stream.type("conn");
  rig.pump();
  stream.type("ect 16\nhello");
  rig.pump();
  const ports = { hostPort: FIRST_PROGRAM_PORT, guestPort: 16 };
  assert.deepEqual(rig.operations(), [REQUEST]);
  rig.send({ op: RESPONSE, ...ports });
  assert.equal(stream.text, `OK ${FIRST_PROGRAM_PORT}\n`);
  const [packet] = rig.received();
  assert.deepEqual([packet.op, packet.data], [RW, "hello"]);
});

Deno.test("commands that are no commands end the stream", () => {
  for (
    const text of [
      "CONNECT\n",
      "CONNECT x\n",
      "GET / HTTP/1.1\n",
      `CONNECT ${"1".repeat(30)}`,
      "CONNECT 4294967296\n",
      "",
    ]
  ) {
    const rig = new VsockRig();
    const stream = rig.stream();
    rig.offer(10);
    rig.backlog.push(stream);
    stream.type(text);
    if (text === "") stream.ended = true;
    rig.pump();
    assert.equal(stream.closed, true, text);
    assert.deepEqual(rig.operations(), []);
  }
});

Deno.test("a guest that refuses ends the program's stream", () => {
  const rig = new VsockRig();
  const stream = rig.stream();
  rig.offer(10);
  stream.type("CONNECT 16\n");
  rig.backlog.push(stream);
  rig.pump();
  rig.send({ op: RST, hostPort: FIRST_PROGRAM_PORT, guestPort: 16 });
  assert.equal(stream.closed, true);
  assert.equal(stream.text, "");
});

Deno.test("a guest that does not answer is given two seconds", () => {
  const rig = new VsockRig();
  const stream = rig.stream();
  rig.offer(10);
  stream.type("CONNECT 16\n");
  rig.backlog.push(stream);
  rig.pump();
  assert.deepEqual(rig.operations(), [REQUEST]);
  for (let tick = 0; tick < 4; tick++) rig.fire(TICK);
  assert.equal(stream.closed, false);
  rig.fire(TICK);
  assert.equal(stream.closed, true);
  assert.deepEqual(rig.operations(), [RST]);
  assert.deepEqual(rig.timers, []);
});

Deno.test("a busy service is asked again, until the guest has waited long enough", () => {
  const rig = new VsockRig();
  rig.offer(10);
  const answers = [-11, -11];
  rig.services.set(52, () => answers.shift() ?? rig.stream());
  rig.send({ op: REQUEST, hostPort: 52, guestPort: 1 });
  rig.fire(RETRY);
  assert.deepEqual(rig.operations(), []);
  rig.fire(RETRY);
  assert.deepEqual(rig.operations(), [RESPONSE]);
  rig.services.set(52, () => -11);
  rig.send({ op: REQUEST, hostPort: 52, guestPort: 2 });
  for (let tick = 0; tick < 6; tick++) rig.fire(TICK);
  assert.deepEqual(rig.operations(), [RST]);
});

Deno.test("the program ends sending: the guest may go on", () => {
  const { rig, stream, ports } = hostConnected();
  stream.type("last words");
  stream.ended = true;
  rig.pump();
  const packets = rig.received();
  assert.deepEqual(packets.map((packet) => [packet.op, packet.flags, packet.data]), [
    [RW, 0, "last words"],
    [SHUTDOWN, SEND, ""],
  ]);
  rig.send({ op: RW, ...ports, data: "answer" });
  assert.equal(stream.text, "answer");
  rig.send({ op: SHUTDOWN, ...ports, flags: SEND });
  assert.deepEqual(rig.operations(), [RST]);
  assert.equal(stream.closed, true);
  assert.deepEqual(rig.log, []);
});

Deno.test("the guest ends sending: the program reads an end and may go on", () => {
  const { rig, stream, ports } = hostConnected();
  rig.send({ op: RW, ...ports, data: "question" }, { op: SHUTDOWN, ...ports, flags: SEND });
  assert.deepEqual([stream.text, stream.sawEnd, stream.closed], ["question", true, false]);
  stream.type("answer");
  stream.ended = true;
  rig.pump();
  assert.deepEqual(rig.received().map(({ op, data }) => [op, data]), [[RW, "answer"], [RST, ""]]);
  assert.equal(stream.closed, true);
});

Deno.test("the guest closes: reset at once", () => {
  const { rig, stream, ports } = hostConnected();
  rig.send({ op: SHUTDOWN, ...ports, flags: RECEIVE | SEND });
  assert.deepEqual(rig.operations(), [RST]);
  assert.equal(stream.closed, true);
  rig.send({ op: RW, ...ports, data: "late" });
  assert.deepEqual(rig.operations(), [RST]);
});

Deno.test("the guest closes before the program has taken everything: it gets the rest, then the end", () => {
  const { rig, stream, ports } = hostConnected();
  stream.room = 3;
  rig.send({ op: RW, ...ports, data: "abcdef" }, { op: SHUTDOWN, ...ports, flags: RECEIVE | SEND });
  assert.deepEqual(rig.operations(), []);
  stream.room = Infinity;
  rig.pump();
  assert.deepEqual([stream.text, stream.closed], ["abcdef", true]);
  assert.deepEqual(rig.operations(), [RST]);
});

Deno.test("the program leaves: the guest gets what was sent and is told that nothing goes any more", () => {
  const { rig, stream, ports } = hostConnected();
  stream.type("bye");
  stream.left = true;
  rig.pump();
  assert.deepEqual(rig.received().map(({ op, flags, data }) => [op, flags, data]), [
    [RW, 0, "bye"],
    [SHUTDOWN, RECEIVE | SEND, ""],
  ]);
  rig.send({ op: RST, ...ports });
  assert.equal(stream.closed, true);
  for (let tick = 0; tick < 6; tick++) rig.fire(TICK);
  assert.deepEqual([rig.operations(), rig.timers.length], [[], 0]);
});

Deno.test("a guest that ignores the end is reset after two seconds", () => {
  const { rig, stream } = hostConnected();
  stream.left = true;
  rig.pump();
  assert.deepEqual(rig.operations(), [SHUTDOWN]);
  for (let tick = 0; tick < 5; tick++) rig.fire(TICK);
  assert.deepEqual(rig.operations(), [RST]);
  assert.equal(stream.closed, true);
});

Deno.test("a program that leaves after ending is noticed, and one that only ended does not spin", () => {
  const { rig, stream } = hostConnected();
  stream.ended = true;
  rig.pump();
  assert.deepEqual(rig.operations(), [SHUTDOWN]);
  rig.pump();
  assert.deepEqual(rig.log, []);
  stream.left = true;
  rig.pump();
  assert.deepEqual(rig.received().map(({ op, flags }) => [op, flags]), [[SHUTDOWN, RECEIVE | SEND]]);
});

Deno.test("the guest gets no more than it has room for", () => {
  const { rig, stream, ports } = guestConnected(10_000);
  stream.type("x".repeat(15_000));
  rig.pump();
  const packets = rig.received();
  assert.deepEqual(packets.map(({ op, data }) => [op, data.length]), [[RW, 4096], [RW, 4096], [RW, 1808], [
    CREDIT_REQUEST,
    0,
  ]]);
  assert.equal(stream.incoming.length, 5000);
  rig.send({ op: CREDIT_UPDATE, ...ports, bufAlloc: 10_000, fwdCnt: 4000 });
  assert.deepEqual(rig.received().map(({ op, data }) => [op, data.length]), [[RW, 4000], [
    CREDIT_REQUEST,
    0,
  ]]);
  rig.send({ op: CREDIT_UPDATE, ...ports, bufAlloc: 10_000, fwdCnt: 14_000 });
  assert.deepEqual(rig.received().map(({ op, data }) => [op, data.length]), [[RW, 1000]]);
  assert.deepEqual(rig.log, []);
});

Deno.test("counters wrap at 32 bits", () => {
  const { rig, stream, ports } = guestConnected(4096);
  rig.send({ op: CREDIT_UPDATE, ...ports, bufAlloc: 4096, fwdCnt: 0xffff_ff00 });
  stream.type("x".repeat(5000));
  rig.pump();
  assert.deepEqual(rig.received().map(({ data }) => data.length), [3840, 0]);
});

Deno.test("the guest hears of new credit in time, and its bytes wait for a slow program", () => {
  const { rig, stream, ports } = guestConnected();
  stream.room = 0;
  const block = "y".repeat(4096);
  for (let i = 0; i < 16; i++) rig.send({ op: RW, ...ports, data: block });
  assert.deepEqual([rig.operations(), stream.got.length], [[], 0]);
  stream.room = 40_000;
  rig.pump();
  assert.deepEqual(rig.received().map(({ op, fwdCnt }) => [op, fwdCnt]), [[CREDIT_UPDATE, 40_000]]);
  stream.room = Infinity;
  rig.pump();
  assert.equal(stream.got.length, 65_536);
  rig.send({ op: CREDIT_REQUEST, ...ports });
  assert.deepEqual(rig.received().map(({ op, fwdCnt }) => [op, fwdCnt]), [[CREDIT_UPDATE, 65_536]]);
});

Deno.test("a guest that sends beyond its credit loses the connection", () => {
  const { rig, stream, ports } = guestConnected();
  stream.room = 0;
  for (let i = 0; i < 16; i++) rig.send({ op: RW, ...ports, data: "z".repeat(4096) });
  assert.equal(stream.closed, false);
  rig.send({ op: RW, ...ports, data: "z" });
  assert.deepEqual([rig.operations(), stream.closed], [[RST], true]);
});

Deno.test("bytes that had to wait arrive whole and in order", () => {
  const { rig, stream, ports } = guestConnected();
  let sent = "";
  let seed = 5;
  for (let i = 0; i < 200; i++) {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    stream.room = (seed >>> 8) % 3000;
    const data = String.fromCharCode(97 + i % 26).repeat((seed >>> 4) % 2000);
    sent += data;
    rig.send({ op: RW, ...ports, data });
    if (i % 5 === 0) {
      stream.room = Infinity;
      rig.pump();
    }
  }
  stream.room = Infinity;
  rig.pump();
  assert.equal(stream.text, sent);
});

Deno.test("without buffers of the guest nothing is read and nothing spins", () => {
  const rig = new VsockRig();
  const streams = [rig.stream(), rig.stream()];
  rig.services.set(1, () => streams[0]);
  rig.services.set(2, () => streams[1]);
  rig.offer(2);
  rig.send({ op: REQUEST, hostPort: 1, guestPort: 1 }, { op: REQUEST, hostPort: 2, guestPort: 2 });
  assert.deepEqual(rig.operations(), [RESPONSE, RESPONSE]);
  for (const stream of streams) stream.type("x".repeat(10_000));
  rig.pump();
  assert.deepEqual(streams.map((stream) => stream.incoming.length), [10_000, 10_000]);
  rig.offer(6);
  rig.pump();
  // in turns, and more at a time the second time
  assert.deepEqual(rig.received().map(({ hostPort }) => hostPort), [1, 2, 1, 1, 2, 2]);
  rig.offer(10);
  rig.pump();
  assert.deepEqual(streams.map((stream) => stream.incoming.length), [0, 0]);
  assert.deepEqual(rig.log, []);
});

Deno.test("the limit is 1,023 connections", () => {
  const rig = new VsockRig();
  rig.services.set(52, () => rig.stream());
  for (let guestPort = 0; guestPort < 1030; guestPort++) {
    rig.send({ op: REQUEST, hostPort: 52, guestPort });
    if (guestPort % 100 === 0) rig.offer(100);
    rig.received();
  }
  assert.equal((rig.handler.onCommand!({ kind: VSOCK_CONNECTIONS }) as unknown[]).length, 1023);
  const refused = rig.stream();
  rig.backlog.push(refused);
  rig.pump();
  assert.equal(refused.closed, true);
});

Deno.test("resets that nobody takes hold up the guest's packets, not our memory", () => {
  const rig = new VsockRig();
  const completed = () => {
    let count = 0;
    while (rig.tx.complete() !== undefined) count++;
    return count;
  };
  for (let i = 0; i < 256; i++) rig.send({ op: RW, hostPort: 1, guestPort: i });
  assert.equal(completed(), 256);
  for (let i = 0; i < 200; i++) rig.send({ op: RW, hostPort: 1, guestPort: i });
  assert.equal(completed(), 0);
  rig.offer(100, 44);
  rig.pump();
  assert.equal(completed(), 100);
  rig.offer(150, 44);
  rig.pump();
  assert.equal(completed(), 100);
  assert.deepEqual(new Set(rig.operations()), new Set([RST]));
});

Deno.test("a descriptor the host refuses pauses accepting", () => {
  const rig = new VsockRig();
  const stream = rig.stream();
  rig.offer(10);
  stream.type("CONNECT 16\n");
  rig.backlog.push(-24, stream);
  rig.pump();
  assert.deepEqual(rig.log, ['Cannot accept a connection for "_vsock0": errno 24']);
  assert.deepEqual(rig.operations(), []);
  rig.fire(1000);
  assert.deepEqual(rig.operations(), [REQUEST]);
});

Deno.test("a restored guest is told that its connections are gone", () => {
  const { rig, stream } = guestConnected();
  assert.deepEqual(rig.handler.onCommand!({ kind: VSOCK_CONNECTIONS }), [[52, 1000]]);
  rig.handler.onCommand!({ kind: VSOCK_TRANSPORT_RESET });
  assert.equal(stream.closed, true);
  assert.equal(rig.event.complete(), undefined);
  rig.event.submit([{ receive: 3 }]);
  const { head, addresses } = rig.event.submit([{ receive: 4 }]);
  rig.event.at(addresses[0], 4).fill(0xee);
  rig.handler.onKick(2);
  assert.equal(rig.event.complete()?.writtenBytes, 0);
  assert.deepEqual(rig.event.complete(), { head, writtenBytes: 4 });
  assert.deepEqual([...rig.event.at(addresses[0], 4)], [0, 0, 0, 0]);
  rig.event.submit([{ receive: 4 }]);
  rig.handler.onKick(2);
  assert.equal(rig.event.complete(), undefined);
});

Deno.test("close() ends every stream and forgets every watch and timer", () => {
  const { rig, stream } = hostConnected();
  const pending = rig.stream();
  rig.backlog.push(pending);
  rig.pump();
  stream.left = true;
  rig.pump();
  rig.handler.drain();
  rig.handler.close();
  assert.deepEqual([stream.closed, pending.closed, rig.watches.size, rig.timers.length], [true, true, 0, 0]);
});

Deno.test("buffers too short for a packet are given back, those for a header alone still do their work", () => {
  const small = new VsockRig();
  const other = small.stream();
  small.services.set(52, () => other);
  small.offer(1, 43);
  small.offer(2, 44);
  small.send({ op: REQUEST, hostPort: 52, guestPort: 1 });
  other.type("x");
  small.pump();
  assert.deepEqual(small.operations(), [-1, RESPONSE, CREDIT_UPDATE]);
  small.offer(1, 45);
  small.pump();
  assert.deepEqual(small.received().map(({ op, data }) => [op, data]), [[RW, "x"]]);
});

Deno.test("random packets, streams and buffers do no harm", () => {
  let seed = 99;
  const random = (below: number) =>
    (seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0) / 65_536 % below | 0;
  const rig = new VsockRig();
  for (let service = 0; service < 3; service++) {
    rig.services.set(service, () => random(4) === 0 ? -11 : rig.stream());
  }
  for (let round = 0; round < 1500; round++) {
    const packet = {
      op: random(9),
      hostPort: random(4),
      guestPort: random(4),
      flags: random(4),
      bufAlloc: random(3) * 5000,
      fwdCnt: random(3) * 0x7fff_ffff,
      type: random(20) === 0 ? 2 : 1,
      data: "d".repeat(random(5) * 100),
      length: random(10) === 0 ? random(70_000) : undefined,
    };
    if (random(10) === 0) {
      rig.tx.submit([{ send: encode(packet).subarray(0, random(60)) }]);
      rig.handler.onKick(1);
    } else rig.send(packet);
    const stream = rig.streams[random(rig.streams.length)];
    if (stream !== undefined) {
      stream.type("s".repeat(random(200)));
      stream.room = random(3) === 0 ? 0 : 500;
      stream.ended ||= random(10) === 0;
      stream.left ||= random(20) === 0;
    }
    if (random(8) === 0) {
      const program = rig.stream();
      program.type(["CONNECT 3\n", "connect 1", "\n", "nonsense\n"][random(4)]);
      rig.backlog.push(program);
    }
    if (random(3) === 0) rig.offer(random(6), 40 + random(600));
    rig.pump();
    if (random(20) === 0) rig.fire([TICK, RETRY][random(2)]);
    rig.received();
    while (rig.tx.complete() !== undefined);
  }
  assert.deepEqual(rig.log, []);
  rig.handler.close();
  assert.ok(
    rig.streams.every((stream) =>
      stream.closed || rig.backlog.includes(stream) || !rig.watches.has(stream.fd)
    ),
  );
});

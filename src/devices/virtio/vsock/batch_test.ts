/** Data of several packets in one call: fewer calls, the same stream. */
import assert from "node:assert/strict";
import { type Packet, VsockRig } from "./testing/vsock_rig.ts";
import {
  VIRTIO_VSOCK_OP_CREDIT_UPDATE as CREDIT_UPDATE,
  VIRTIO_VSOCK_OP_REQUEST as REQUEST,
  VIRTIO_VSOCK_OP_RST as RST,
  VIRTIO_VSOCK_OP_RW as RW,
  VIRTIO_VSOCK_OP_SHUTDOWN as SHUTDOWN,
} from "./spec.ts";

const PORTS = [50, 51];

/** Two connections, guest ports 1 and 2. */
function connected() {
  const rig = new VsockRig();
  const streams = PORTS.map((port) => {
    const stream = rig.stream();
    rig.services.set(port, () => stream);
    return stream;
  });
  rig.offer(2, 44);
  PORTS.forEach((hostPort, i) => rig.send({ op: REQUEST, hostPort, guestPort: i + 1 }));
  rig.received();
  const rw = (which: number, data: string): Packet => ({
    op: RW,
    hostPort: PORTS[which],
    guestPort: which + 1,
    data,
  });
  /** Makes packets available before the device is told. */
  const sendTogether = (...packets: Packet[]) => rig.send(...packets);
  return { rig, streams, rw, sendTogether };
}

Deno.test("packets that follow each other on a connection are sent by one call", () => {
  const { streams, rw, sendTogether } = connected();
  sendTogether(rw(0, "one "), rw(0, "two "), rw(0, "three"), rw(1, "other"), rw(0, " four"));
  assert.deepEqual(streams.map(({ text, sends }) => [text, sends]), [["one two three four", 2], [
    "other",
    1,
  ]]);
});

Deno.test("what is no data waits for the data before it", () => {
  const { rig, streams, rw, sendTogether } = connected();
  const ports = { hostPort: PORTS[0], guestPort: 1 };
  sendTogether(rw(0, "a"), { op: CREDIT_UPDATE, ...ports }, rw(0, "b"), { op: SHUTDOWN, ...ports, flags: 2 });
  assert.deepEqual([streams[0].text, streams[0].sawEnd], ["ab", true]);
  sendTogether(rw(1, "c"), { op: RST, hostPort: PORTS[1], guestPort: 2 }, rw(1, "d"));
  assert.deepEqual([streams[1].text, streams[1].closed], ["c", true]);
  rig.offer(1);
  assert.deepEqual(rig.operations(), [RST]);
});

Deno.test("a host that takes a part of several packets gets the rest later, in order", () => {
  const { rig, streams: [stream], rw, sendTogether } = connected();
  const parts = Array.from({ length: 12 }, (_, i) => String.fromCharCode(97 + i).repeat(100 * (i + 1)));
  stream.room = 1234;
  sendTogether(...parts.slice(0, 8).map((part) => rw(0, part)));
  stream.room = 777;
  sendTogether(...parts.slice(8).map((part) => rw(0, part)));
  for (let i = 0; i < 20; i++) {
    stream.room = 500;
    rig.pump();
  }
  assert.equal(stream.text, parts.join(""));
});

Deno.test("buffers are filled by fewer and fewer calls while there is enough, and one by one when there is not", () => {
  const { rig, streams: [stream] } = connected();
  const text = Array.from({ length: 40_000 }, (_, i) => String.fromCharCode(33 + i % 90)).join("");
  stream.type(text);
  rig.offer(60, 44 + 1000);
  rig.pump();
  const data = rig.received().filter(({ op }) => op === RW);
  assert.equal(data.map((packet) => packet.data).join(""), text);
  assert.equal(data.length, 40);
  // 1, 2, 4, 8, 16, then what is left of the 40, and the look that finds nothing
  assert.ok(stream.receives <= 7, `${stream.receives}`);
  const before = stream.receives;
  stream.type("short");
  rig.pump();
  assert.deepEqual(rig.received().map((packet) => packet.data), ["short"]);
  assert.equal(stream.receives, before + 1);
});

Deno.test("filling several buffers respects credit, and buffers of any size", () => {
  const { rig, streams: [stream] } = connected();
  const text = Array.from({ length: 9000 }, (_, i) => String.fromCharCode(33 + i % 90)).join("");
  const ports = { hostPort: PORTS[0], guestPort: 1 };
  rig.send({ op: CREDIT_UPDATE, ...ports, bufAlloc: 2500 });
  stream.type(text);
  let got = "";
  for (let round = 0; round < 200 && got.length < text.length; round++) {
    rig.offer(1 + round % 7, 44 + [1, 300, 0, 77, 1500][round % 5]);
    rig.pump();
    const came = rig.received().filter(({ op }) => op === RW).map(({ data }) => data).join("");
    assert.ok(came.length <= 2500);
    got += came;
    rig.send({ op: CREDIT_UPDATE, ...ports, bufAlloc: 2500, fwdCnt: got.length });
    while (rig.tx.complete() !== undefined);
  }
  assert.equal(got, text);
});

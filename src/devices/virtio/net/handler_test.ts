import assert from "node:assert/strict";
import { featureMask } from "@vmm/virtio/features.ts";
import { readNetCounters } from "./counters.ts";
import { netModel, type NetModelOptions } from "./model.ts";
import { NetConfigLayout, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ } from "./spec.ts";
import { MAC, NetRig, packet } from "./testing/net_rig.ts";

const EPOLLIN = 1;
const EPOLLOUT = 4;
const [RX, TX] = [0, 1];

function offerBuffers(rig: NetRig, count: number, length = 2048) {
  return Array.from({ length: count }, () => rig.drivers[RX].submit([{ receive: length }]));
}

Deno.test("net handler watches the tap only while the guest has buffers", () => {
  const rig = new NetRig();
  assert.equal(rig.watched.get(100), 0);
  rig.handler.onKick(RX);
  assert.equal(rig.watched.get(100), 0);
  const [first, second] = offerBuffers(rig, 2);
  rig.handler.onKick(RX);
  assert.equal(rig.watched.get(100), EPOLLIN);
  rig.ports[0].incoming.push(packet(60, 1), packet(1514, 2), packet(70, 3));
  rig.ready(0, EPOLLIN);
  assert.equal(rig.watched.get(100), 0);
  assert.deepEqual(rig.drivers[RX].complete(), { head: first.head, writtenBytes: 72 });
  assert.deepEqual(rig.drivers[RX].complete(), { head: second.head, writtenBytes: 1526 });
  const expected = packet(60, 1);
  expected[10] = 1; // num_buffers
  assert.deepEqual(rig.drivers[RX].at(first.addresses[0], 72), expected);
  const receives = rig.ports[0].receives;
  rig.ready(0, EPOLLIN);
  assert.equal(rig.ports[0].receives, receives, "no busy loop without buffers");
  assert.ok(rig.drivers[RX].wantsNotification());
  offerBuffers(rig, 1);
  rig.handler.onKick(RX);
  assert.equal(rig.drivers[RX].complete()?.writtenBytes, 82);
  assert.deepEqual(readNetCounters(rig.counters), {
    rx_bytes: 1644n,
    rx_frames: 3n,
    tx_bytes: 0n,
    tx_frames: 0n,
  });
});

Deno.test("net handler returns receive chains that cannot hold a header", () => {
  const rig = new NetRig();
  rig.drivers[RX].submit([{ receive: 11 }]);
  rig.drivers[RX].submit([{ send: new Uint8Array(4) }, { receive: 2048 }]);
  const [good] = offerBuffers(rig, 1);
  rig.ports[0].incoming.push(packet(60));
  rig.handler.onKick(RX);
  assert.equal(rig.drivers[RX].complete()?.writtenBytes, 0);
  assert.equal(rig.drivers[RX].complete()?.writtenBytes, 0);
  assert.deepEqual(rig.drivers[RX].complete(), { head: good.head, writtenBytes: 72 });
});

Deno.test("net handler sends packets and counts them without their header", () => {
  const rig = new NetRig();
  rig.drivers[TX].submit([{ send: packet(60, 5).slice(0, 12) }, { send: packet(60, 5).slice(12) }]);
  rig.drivers[TX].submit([{ send: packet(100, 6) }]);
  rig.handler.onKick(TX);
  assert.deepEqual(rig.ports[0].sent, [packet(60, 5), packet(100, 6)]);
  assert.equal(rig.drivers[TX].complete()?.writtenBytes, 0);
  assert.equal(rig.drivers[TX].complete()?.writtenBytes, 0);
  assert.deepEqual(rig.interrupts, [TX]);
  assert.deepEqual(readNetCounters(rig.counters), {
    rx_bytes: 0n,
    rx_frames: 0n,
    tx_bytes: 160n,
    tx_frames: 2n,
  });
});

Deno.test("net handler waits for a full tap and then sends the same packet", () => {
  const rig = new NetRig();
  rig.ports[0].sendResult = -11;
  rig.drivers[TX].submit([{ send: packet(60, 1) }]);
  rig.handler.onKick(TX);
  assert.equal(rig.drivers[TX].complete(), undefined);
  assert.equal(rig.watched.get(100), EPOLLOUT);
  rig.handler.onKick(TX);
  rig.ports[0].sendResult = undefined;
  rig.ready(0, EPOLLOUT);
  assert.deepEqual(rig.ports[0].sent, [packet(60, 1)]);
  assert.equal(rig.watched.get(100), 0);
});

Deno.test("net handler drops packets the host refuses and goes on", () => {
  const rig = new NetRig();
  rig.drivers[TX].submit([{ send: new Uint8Array(5) }]);
  rig.drivers[TX].submit([{ receive: 100 }]);
  rig.drivers[TX].submit([{ send: packet(60) }]);
  rig.handler.onKick(TX);
  for (let i = 0; i < 3; i++) assert.equal(rig.drivers[TX].complete()?.writtenBytes, 0);
  assert.equal(rig.ports[0].sent.length, 1);
  assert.equal(rig.posted.length, 1, "told once");
  rig.nowMs += 5000;
  rig.drivers[TX].submit([{ send: new Uint8Array(5) }]);
  rig.handler.onKick(TX);
  assert.deepEqual(rig.posted.map((event) => (event as { leftOut?: number }).leftOut), [0, 1]);
  assert.equal(rig.faults.length, 0);
});

Deno.test("net handler stops reading from a tap that is gone", () => {
  const rig = new NetRig();
  offerBuffers(rig, 2);
  rig.ports[0].receiveResult = -77;
  rig.handler.onKick(RX);
  rig.handler.onKick(RX);
  assert.equal(rig.ports[0].receives, 1);
  assert.equal(rig.watched.get(100), 0);
  assert.equal(rig.posted.length, 1);
});

Deno.test("net handler obeys its receive and transmit limits", () => {
  const rig = new NetRig({ limiter: { ops: { size: 2, oneTimeBurst: 0, refillMs: 1000 } } });
  offerBuffers(rig, 8);
  rig.ports[0].incoming.push(...[1, 2, 3, 4, 5].map((seed) => packet(60, seed)));
  rig.handler.onKick(RX);
  assert.equal(rig.ports[0].incoming.length, 2, "two tokens and the one that found none");
  assert.equal(rig.watched.get(100), 0);
  for (let i = 0; i < 5; i++) rig.drivers[TX].submit([{ send: packet(60, i) }]);
  rig.handler.onKick(TX);
  assert.equal(rig.ports[0].sent.length, 3);
  assert.deepEqual(rig.timers.map((timer) => timer.delayMs), [100, 100]);
  rig.nowMs += 5000;
  rig.fire();
  assert.equal(rig.ports[0].incoming.length, 0);
  rig.fire();
  assert.equal(rig.ports[0].sent.length, 5);
});

Deno.test("net handler lets go of the tap while paused", () => {
  const rig = new NetRig();
  offerBuffers(rig, 4);
  rig.handler.onKick(RX);
  rig.handler.drain();
  assert.equal(rig.watched.get(100), 0);
  rig.ports[0].incoming.push(packet(60));
  rig.handler.onKick(RX);
  assert.equal(rig.ports[0].incoming.length, 0);
  rig.handler.close();
  assert.equal(rig.watched.has(100), false);
});

Deno.test("net control queue accepts, tolerates and refuses as the original", () => {
  const rig = new NetRig({ pairs: 2, features: featureMask(VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ) });
  const [ok, error] = [0, 1];
  assert.deepEqual(rig.ports.map((port) => port.enabled), [true, false]);
  assert.equal(rig.control(4, 0, 2, 0), ok);
  assert.deepEqual(rig.ports.map((port) => port.enabled), [true, true]);
  assert.equal(rig.control(4, 0, 3, 0), error);
  assert.equal(rig.control(4, 0, 0, 0), error);
  assert.equal(rig.control(4, 1, 1, 0), error);
  assert.equal(rig.control(4, 0, 1), error);
  assert.equal(rig.control(5, 0, 0x82, 0, 0, 0, 0, 0, 0, 0), ok);
  assert.deepEqual(rig.ports.map((port) => port.offload), [3, 3]);
  rig.ports[1].offloadResult = -22;
  assert.equal(rig.control(5, 0, 0x80, 0, 0, 0, 0, 0, 0, 0), error);
  assert.equal(rig.control(5, 1, 0, 0, 0, 0, 0, 0, 0, 0), error);
  for (const command of [0, 1, 2, 3, 4, 5]) assert.equal(rig.control(0, command, 1), ok);
  assert.equal(rig.control(0, 6, 1), error);
  assert.equal(rig.control(2, 0, 5, 0), ok);
  assert.equal(rig.control(2, 2, 5, 0), error);
  assert.equal(rig.control(1, 0, 1, 2, 3, 4, 5, 6), error);
  assert.equal(rig.control(9), error);
  assert.equal(rig.faults.length, 0);
});

Deno.test("net handler announces until the driver has acknowledged, five times at most", () => {
  const rig = new NetRig();
  assert.deepEqual(rig.handler.onCommand!({ kind: "announce" }), { result: 0 });
  assert.equal(rig.config[NetConfigLayout.status], 3);
  assert.equal(rig.configInterrupts, 1);
  assert.equal(rig.ports[0].frames[0].byteLength, 72);
  assert.deepEqual(rig.ports[0].frames[0].subarray(18, 24), MAC);
  assert.equal(rig.control(3, 0), 0);
  assert.equal(rig.config[NetConfigLayout.status], 1);
  rig.fire();
  assert.equal(rig.configInterrupts, 1);
  while (rig.timers.length > 0) rig.fire();
  assert.equal(rig.ports[0].frames.length, 5);
  assert.deepEqual(rig.handler.onCommand!({ kind: "resize" }), { result: -22 });
});

Deno.test("net handler breaks with its queues, once", () => {
  const rig = new NetRig();
  rig.drivers[TX].setAvailableIndex(5000);
  rig.handler.onKick(TX);
  rig.handler.onKick(TX);
  assert.equal(rig.faults.length, 1);
});

Deno.test("netModel() offers the offloads asked for", () => {
  const options: NetModelOptions = {
    mac: MAC,
    mtu: 1500,
    queuePairs: 2,
    queueSize: 256,
    offloadCsum: true,
    offloadTso: true,
    offloadUfo: true,
    iommu: false,
  };
  const all = netModel(options);
  assert.equal(
    all.features,
    featureMask(0, 1, 2, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 21, 22, 29, 32),
  );
  assert.deepEqual(all.queueSizes, [256, 256, 256, 256, 256]);
  const view = new DataView(all.config.buffer);
  assert.deepEqual(all.config.subarray(0, 6), MAC);
  assert.deepEqual([6, 8, 10].map((at) => view.getUint16(at, true)), [1, 2, 1500]);
  const bare = netModel({ ...options, offloadCsum: false, mtu: undefined, iommu: true });
  assert.equal(bare.features, featureMask(5, 16, 17, 21, 22, 29, 32, 33));
});

Deno.test("net handler survives random rings and orders", () => {
  let state = 99;
  const next = (below: number) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
  for (let round = 0; round < 40; round++) {
    const rig = new NetRig({ size: 16 });
    for (let step = 0; step < 40; step++) {
      const queue = next(3);
      const driver = rig.drivers[queue];
      const where = [driver.descriptors, driver.descriptors + next(0x1000), 0, next(0x7fff_ffff)][next(4)];
      driver.describe(next(16), where, [0, 1, 11, 12, 2048, 0xffff_ffff][next(6)], next(8), next(18));
      if (next(2) === 0) rig.ports[0].incoming.push(packet(next(100)));
      if (next(3) === 0) driver.offer(next(17));
      rig.handler.onKick(queue);
      rig.ready(0, EPOLLIN | EPOLLOUT);
    }
    rig.handler.close();
    assert.ok(rig.posted.length <= 1);
  }
});

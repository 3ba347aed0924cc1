/**
 * Bytes the socket device's handler allocates per packet: none once it is hot.
 *
 *     deno run -A --v8-flags=--expose-gc,--semi-space-growth-factor=1,--min-semi-space-size=64 tests/perf/vsock_allocations.ts
 *
 * A mock driver and a stream that does nothing play both sides. What V8 allocates for one long run, which fits into its
 * young generation, is divided by the number of packets: less than an object each, because what there is belongs to turns of
 * 128 packets and the timers that continue them.
 */
import { createVsockHandler } from "@vmm/devices/virtio/vsock/handler.ts";
import { PacketHeader, VIRTIO_VSOCK_OP_REQUEST, VIRTIO_VSOCK_OP_RW } from "@vmm/devices/virtio/vsock/spec.ts";
import { encode } from "@vmm/devices/virtio/vsock/testing/vsock_rig.ts";
import type { Activation } from "@vmm/virtio/device.ts";
import { MockDriver } from "@vmm/virtio/testing/mock_driver.ts";

const ROUNDS = 20_000;
const BATCH = 128;
const QUEUE_SIZE = 256;
const DATA_BYTES = 64;
const BUFFER_BYTES = 4096;
const EAGAIN = 11;
const EPOLLIN = 1;
const STREAM_FD = 9;
/** A guest port that is no small integer to V8 unless somebody takes care. */
const GUEST_PORT = 0xf000_0001;
const VIRTQ_DESC_F_WRITE = 2;

const rx = new MockDriver({ size: QUEUE_SIZE, ramBytes: 0x400_0000 });
const tx = new MockDriver({ size: QUEUE_SIZE, ramBytes: 0x40_0000 });
const watches = new Map<number, (events: number) => void>();
let timers: (() => void)[] = [];
let waiting = 0;

const stream = {
  fd: STREAM_FD,
  receive(_iov: Uint8Array<ArrayBuffer>, count: number): number {
    const got = Math.min(waiting, count * BUFFER_BYTES);
    waiting -= got;
    return got === 0 ? -EAGAIN : got;
  },
  send: (_iov: Uint8Array<ArrayBuffer>, count: number) => count * DATA_BYTES,
  receiveBytes: () => -EAGAIN,
  sendBytes: (bytes: Uint8Array<ArrayBuffer>) => bytes.byteLength,
  endSending() {},
  close() {},
};
const activation = {
  id: "_vsock0",
  memory: rx.memory,
  queues: [rx.queue(), tx.queue(), new MockDriver().queue()],
  config: Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 0),
  env: {
    watch: (fd: number, _events: number, ready: (events: number) => void) => watches.set(fd, ready),
    rewatch() {},
    unwatch() {},
    timer(_delayMs: number, fire: () => void) {
      timers.push(fire);
      return () => {};
    },
    post: console.log,
  },
  interruptQueue() {},
  fail: console.log,
} as unknown as Activation;
const handler = createVsockHandler(activation, {
  host: { listenFd: 3, accept: () => -EAGAIN, connect: () => stream },
});

function fireTimers(): void {
  while (timers.length > 0) {
    const due = timers;
    timers = [];
    for (const fire of due) fire();
  }
}

const packet = (op: number, data = "") =>
  encode({ op, hostPort: 5, guestPort: GUEST_PORT, bufAlloc: 0x4000_0000, data });

rx.submit([{ receive: PacketHeader.size }]);
tx.submit([{ send: packet(VIRTIO_VSOCK_OP_REQUEST) }]);
handler.onKick(1);
for (let i = 0; i < QUEUE_SIZE; i++) {
  const bytes = packet(VIRTIO_VSOCK_OP_RW, "x".repeat(DATA_BYTES));
  const at = tx.allocate(bytes.byteLength);
  tx.at(at, bytes.byteLength).set(bytes);
  tx.describe(i, at, bytes.byteLength, 0);
  const length = PacketHeader.size + BUFFER_BYTES;
  rx.describe(i, rx.allocate(length), length, VIRTQ_DESC_F_WRITE);
}

function send(): void {
  for (let round = 0; round < ROUNDS; round++) {
    for (let i = 0; i < BATCH; i++) tx.offer(i);
    handler.onKick(1);
    fireTimers();
  }
}

function receive(): void {
  for (let round = 0; round < ROUNDS; round++) {
    for (let i = 0; i < BATCH; i++) rx.offer(i);
    waiting += BATCH * BUFFER_BYTES;
    watches.get(STREAM_FD)!(EPOLLIN);
    fireTimers();
  }
}

const { gc } = globalThis as { gc?: () => void };
if (gc === undefined) throw new Error("Run this with --v8-flags=--expose-gc");
for (const [name, run] of [["sent", send], ["received", receive]] as const) {
  run();
  gc();
  const before = Deno.memoryUsage().heapUsed;
  run();
  const bytes = Deno.memoryUsage().heapUsed - before;
  console.log(
    `${name}: ${bytes} bytes for ${ROUNDS * BATCH} packets, ${(bytes / (ROUNDS * BATCH)).toFixed(2)} each`,
  );
}

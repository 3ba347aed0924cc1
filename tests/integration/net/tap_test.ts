/**
 * A real tap under the net handler: the test plays the guest and answers a ping of the host's.
 *
 * Needs root and /dev/net/tun.
 */
import assert from "node:assert/strict";
import { EPOLL, Epoll } from "@ffi/libc/epoll.ts";
import { MAP, map, PROT, wrap } from "@ffi/libc/mmap.ts";
import { openTap, TapError, type TapRequest } from "@vmm/backends/net/tap.ts";
import { attachTaps } from "@vmm/backends/net/tap_port.ts";
import { createNetCounters, readNetCounters } from "@vmm/devices/virtio/net/counters.ts";
import { createNetHandler } from "@vmm/devices/virtio/net/handler.ts";
import { netModel } from "@vmm/devices/virtio/net/model.ts";
import { GuestMemory } from "@vmm/memory/guest_memory.ts";
import type { QueueHandler } from "@vmm/virtio/device.ts";
import { SplitQueue } from "@vmm/virtio/queue/split.ts";

const canUseTaps = (() => {
  try {
    Deno.openSync("/dev/net/tun", { read: true, write: true }).close();
    return Deno.uid() === 0;
  } catch {
    return false;
  }
})();

const test = (name: string, body: () => void | Promise<void>) =>
  Deno.test({
    name: canUseTaps ? name : `${name} (skipped: needs root and /dev/net/tun)`,
    ignore: !canUseTaps,
    fn: body,
  });

const request = (change: Partial<TapRequest> = {}): TapRequest => ({ num_queues: 2, ...change });
const chainOf = (run: () => unknown): string[] => {
  try {
    run();
  } catch (error) {
    return (error as TapError).chain();
  }
  throw new Error("nothing was thrown");
};
const show = (name: string) =>
  new TextDecoder().decode(
    new Deno.Command("ip", { args: ["-d", "address", "show", name], stderr: "null" }).outputSync().stdout,
  );

test("openTap() makes an interface of its own, with address, MTU and MAC, which goes with it", () => {
  const tap = openTap(request({
    ip: "198.18.7.1",
    mask: "255.255.255.128",
    mtu: 1400,
    host_mac: "2e:aa:00:00:00:07",
  }));
  assert.match(tap.interfaceName, /^vmtap\d+$/);
  assert.equal(tap.mtu, 1400);
  const shown = show(tap.interfaceName);
  for (const text of ["mtu 1400", "2e:aa:00:00:00:07", "198.18.7.1/25", "vnet_hdr on", "pi off", "UP"]) {
    assert.ok(shown.includes(text), `${text} in ${shown}`);
  }
  tap.close();
  assert.equal(show(tap.interfaceName), "");
});

test("openTap() opens one descriptor per queue pair and takes an IPv6 address", () => {
  const tap = openTap(request({ num_queues: 6, ip: "fd00:198::1", mask: "ffff:ffff:ffff:ffff::" }));
  assert.equal(tap.fds.length, 3);
  assert.match(show(tap.interfaceName), /numqueues 3[\s\S]*fd00:198::1\/64/);
  tap.close();
});

test("openTap() takes an existing interface if its mode agrees, and leaves its address alone", () => {
  const name = "nephostest0";
  const ip = (...args: string[]) => assert.ok(new Deno.Command("ip", { args }).outputSync().success);
  ip("tuntap", "add", "dev", name, "mode", "tap", "vnet_hdr");
  try {
    ip("address", "add", "198.18.8.1/24", "dev", name);
    const tap = openTap(request({ tap: name, ip: "198.18.9.1", mask: "255.255.255.0" }));
    assert.equal(tap.interfaceName, name);
    assert.deepEqual(tap.warnings, [`Tap ${name} already exists. IP configuration will not be overwritten.`]);
    assert.ok(show(name).includes("198.18.8.1/24") && !show(name).includes("198.18.9.1"));
    assert.deepEqual(chainOf(() => openTap(request({ tap: name }))), [
      "Cannot create virtio-net device",
      "Failed to open taps",
      `Open tap device failed (interface=${name})`,
      "Unable to configure tap interface",
      "Device or resource busy (os error 16)",
    ]);
    assert.match(chainOf(() => openTap(request({ tap: name, num_queues: 4 })))[2], /no support TAP side/);
    const adopted = openTap(request({ fds: [...tap.fds] }));
    assert.equal(adopted.interfaceName, name);
    assert.notDeepEqual(adopted.fds, tap.fds);
    adopted.close();
    tap.close();
  } finally {
    ip("link", "delete", name);
  }
});

test("openTap() names what it cannot use", () => {
  assert.match(chainOf(() => openTap(request({ tap: "x".repeat(16) })))[3], /too long \(max length is 15\)/);
  assert.equal(chainOf(() => openTap(request({ tap: "lo" }))).at(-1), "Invalid argument (os error 22)");
  assert.match(chainOf(() => openTap(request({ fds: [0] })))[1], /Using existing tap \(fd=0/);
});

const QUEUE_SIZE = 32;
const BUFFER_BYTES = 2048;
const QUEUE_BYTES = 0x20_000;
const [DESCRIPTORS, AVAIL, USED, BUFFERS] = [0, 0x1000, 0x2000, 0x4000];

/** The guest's side of one queue whose buffers lie in memory the kernel can write. */
class GuestQueue {
  readonly queue: SplitQueue;
  readonly #view: DataView;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  #available = 0;
  #used = 0;

  constructor(memory: GuestMemory, private readonly base: number) {
    const made = SplitQueue.create(memory, {
      size: QUEUE_SIZE,
      descriptors: base + DESCRIPTORS,
      driver: base + AVAIL,
      device: base + USED,
      eventIndex: false,
      indirect: false,
      nextAvail: 0,
      nextUsed: 0,
    });
    assert.ok(made instanceof SplitQueue);
    this.queue = made;
    this.#bytes = memory.bytes(base, QUEUE_BYTES)!;
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, QUEUE_BYTES);
  }

  /** Offers buffer `index`: to be filled, or to be sent. */
  offer(index: number, lengthBytes: number, writable: boolean): void {
    const at = DESCRIPTORS + 16 * index;
    this.#view.setBigUint64(at, BigInt(this.base + BUFFERS + index * BUFFER_BYTES), true);
    this.#view.setUint32(at + 8, lengthBytes, true);
    this.#view.setUint32(at + 12, writable ? 2 : 0, true);
    this.#view.setUint16(AVAIL + 4 + 2 * (this.#available % QUEUE_SIZE), index, true);
    this.#available++;
    this.#view.setUint16(AVAIL + 2, this.#available, true);
  }

  buffer(index: number): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(BUFFERS + index * BUFFER_BYTES, BUFFERS + (index + 1) * BUFFER_BYTES);
  }

  /** The next buffer that came back. */
  take(): { index: number; lengthBytes: number } | undefined {
    if (this.#view.getUint16(USED + 2, true) === (this.#used & 0xffff)) return undefined;
    const at = USED + 4 + 8 * (this.#used++ % QUEUE_SIZE);
    return { index: this.#view.getUint32(at, true), lengthBytes: this.#view.getUint32(at + 4, true) };
  }
}

/** Internet checksum of `bytes`. */
function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += bytes[i] << 8 | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

/** What a host at `address` answers to a frame: ARP and ping; undefined for anything else. */
function answer(frame: Uint8Array, mac: Uint8Array, address: Uint8Array): Uint8Array | undefined {
  const reply = frame.slice();
  reply.set(frame.subarray(6, 12), 0);
  reply.set(mac, 6);
  const type = frame[12] << 8 | frame[13];
  if (type === 0x0806 && frame[21] === 1 && address.every((byte, i) => frame[38 + i] === byte)) {
    reply[21] = 2;
    reply.set(frame.subarray(22, 32), 32);
    reply.set(mac, 22);
    reply.set(address, 28);
    return reply;
  }
  if (type === 0x0800 && frame[23] === 1 && frame[34] === 8) {
    reply.set(frame.subarray(26, 30), 30);
    reply.set(frame.subarray(30, 34), 26);
    reply[34] = 0;
    reply.fill(0, 36, 38);
    const length = frame[16] << 8 | frame[17];
    const sum = checksum(reply.subarray(34, 14 + length));
    reply[36] = sum >> 8;
    reply[37] = sum & 0xff;
    return reply;
  }
  return undefined;
}

test("net handler carries a ping through a real tap", async () => {
  const tap = openTap(request({ ip: "198.18.10.1", mask: "255.255.255.0" }));
  const ramBytes = 3 * QUEUE_BYTES;
  const hostAddress = map(ramBytes, PROT.READ | PROT.WRITE, MAP.PRIVATE | MAP.ANONYMOUS);
  const memory = new GuestMemory([
    { gpa: 0, sizeBytes: ramBytes, hostAddress, buffer: wrap(hostAddress, ramBytes) },
  ]);
  const queues = [0, 1, 2].map((index) => new GuestQueue(memory, index * QUEUE_BYTES));
  const [rx, tx] = queues;
  const mac = Uint8Array.of(0x2e, 0, 0, 0, 0, 9);
  const counters = createNetCounters();
  const epoll = new Epoll(4);
  const ready = new Map<number, (events: number) => void>();
  const events = new Map<number, number>();
  const rewatch = (fd: number, wanted: number) => {
    if (events.get(fd)) epoll.remove(fd);
    if (wanted !== 0) epoll.add(fd, wanted, fd);
    events.set(fd, wanted);
  };
  const { features, config } = netModel({
    mac,
    mtu: tap.mtu,
    queuePairs: 1,
    queueSize: QUEUE_SIZE,
    offloadCsum: false,
    offloadTso: false,
    offloadUfo: false,
    iommu: false,
  });
  const handler: QueueHandler = createNetHandler({
    id: "_net1",
    memory,
    queues: queues.map(({ queue }) => queue),
    featuresLow: Number(features & 0xdfff_ffffn),
    featuresHigh: 1,
    backend: { fds: tap.fds, counters },
    config,
    env: {
      watch: (fd, wanted, call) => {
        ready.set(fd, call);
        rewatch(fd, wanted);
      },
      rewatch,
      unwatch: (fd) => rewatch(fd, 0),
      timer: () => () => {},
      post: () => {},
    },
    interruptQueue: () => {},
    interruptConfig: () => {},
    fail: (fault) => assert.fail(fault.fault),
  }, { ports: attachTaps(tap.fds), nowMs: () => performance.now() });
  const ping = new Deno.Command("ping", {
    args: ["-c", "3", "-i", "0.2", "-w", "300", "-s", "1200", "198.18.10.2"],
    stdout: "null",
  }).spawn();
  let done = false;
  const finished = ping.status.then(({ code }) => {
    done = true;
    return code;
  });
  try {
    for (let i = 0; i < 8; i++) rx.offer(i, BUFFER_BYTES, true);
    handler.onKick(0);
    let next = 0;
    while (!done) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      const count = epoll.wait(0);
      for (let i = 0; i < count; i++) ready.get(epoll.token(i))!(epoll.events(i));
      for (let got = rx.take(); got !== undefined; got = rx.take()) {
        assert.equal(rx.buffer(got.index)[10], 1, "num_buffers");
        const reply = answer(
          rx.buffer(got.index).subarray(12, got.lengthBytes),
          mac,
          Uint8Array.of(198, 18, 10, 2),
        );
        if (reply !== undefined) {
          const index = next++ % QUEUE_SIZE;
          tx.buffer(index).fill(0, 0, 12);
          tx.buffer(index).set(reply, 12);
          tx.offer(index, 12 + reply.length, false);
          handler.onKick(1);
          assert.equal(tx.take()?.index, index);
        }
        rx.offer(got.index, BUFFER_BYTES, true);
      }
      handler.onKick(0);
    }
    assert.equal(await finished, 0, "every ping was answered");
    const { rx_frames, tx_frames, tx_bytes } = readNetCounters(counters);
    assert.ok(rx_frames >= 4n && tx_frames >= 4n && tx_bytes >= 3n * 1200n);
    assert.equal(events.get(tap.fds[0]), EPOLL.IN);
  } finally {
    handler.close();
    epoll.close();
    tap.close();
  }
});

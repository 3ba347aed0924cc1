/**
 * What each stage of a block request and of a packet costs on the device's side, and what it leaves on the heap: kick →
 * epoll → parse → system call → used ring → interrupt.
 *
 *     deno run -A tests/perf/io_stages.ts [DIRECTORY of the disk image, default /dev/shm]
 *
 * No guest runs: the driver's part is a few stores in this thread. Needs KVM for the interrupt.
 */
import { getHeapStatistics } from "node:v8";
import { EPOLL, Epoll } from "@ffi/libc/epoll.ts";
import { eventfd, O, open } from "@ffi/libc/fd.ts";
import { drainEvent, signalEvent } from "@ffi/libc/io.ts";
import { MAP, map, PROT, wrap } from "@ffi/libc/mmap.ts";
import { monotonicUsSmall } from "@ffi/libc/clock.ts";
import { attachDisk } from "@vmm/backends/disk/attach.ts";
import { createBlockCounters } from "@vmm/devices/virtio/block/counters.ts";
import { createBlockHandler } from "@vmm/devices/virtio/block/handler.ts";
import { BlockConfig } from "@vmm/devices/virtio/block/spec.ts";
import { createNetCounters } from "@vmm/devices/virtio/net/counters.ts";
import { createNetHandler } from "@vmm/devices/virtio/net/handler.ts";
import { KvmSystem } from "@vmm/hypervisor/kvm/system.ts";
import { KvmVm } from "@vmm/hypervisor/kvm/vm.ts";
import { GuestMemory } from "@vmm/memory/guest_memory.ts";
import type { IoEnvironment } from "@vmm/virtio/device.ts";
import { IO_PENDING } from "@vmm/virtio/ports/disk.ts";
import { DescriptorChain } from "@vmm/virtio/queue/chain.ts";
import { SplitQueue } from "@vmm/virtio/queue/split.ts";
import { median } from "./client.ts";

const DISK_BYTES = 64 << 20;
const BLOCK_BYTES = 4096;
const BLOCKS = DISK_BYTES / BLOCK_BYTES;
const RAM_BYTES = 16 << 20;
const QUEUE_SIZE = 128;
const RINGS = { descriptors: 0x1000, driver: 0x2000, device: 0x3000 };
const HEADERS = 0x4000;
const TABLES = 0x8000;
const STATUS = 0x6000;
const DATA = 0x10_0000;
const DEPTH = 32;
const LAPIC = 0xfee0_0000;
const VECTOR = 0x51;
const ROUNDS = 15;
const WARM_UP = 6;

const image = `${Deno.args[0] ?? "/dev/shm"}/nephos-stages-${Deno.pid}`;
Deno.writeFileSync(image, new Uint8Array(DISK_BYTES));
const fd = open(image, O.RDWR);
Deno.removeSync(image);

const hostAddress = map(RAM_BYTES, PROT.READ | PROT.WRITE, MAP.SHARED | MAP.ANONYMOUS);
const ram = wrap(hostAddress, RAM_BYTES);
const memory = new GuestMemory([{ gpa: 0, sizeBytes: RAM_BYTES, hostAddress, buffer: ram }]);
const view = new DataView(ram);
const newQueue = () =>
  SplitQueue.create(memory, {
    size: QUEUE_SIZE,
    ...RINGS,
    eventIndex: true,
    indirect: true,
    nextAvail: view.getUint16(RINGS.driver + 2, true),
    nextUsed: view.getUint16(RINGS.device + 2, true),
  }) as SplitQueue;

function describe(at: number, address: number, length: number, flags: number, next: number): void {
  view.setBigUint64(at, BigInt(address), true);
  view.setUint32(at + 8, length, true);
  view.setUint16(at + 12, flags, true);
  view.setUint16(at + 14, next, true);
}
for (let i = 0; i < DEPTH; i++) {
  describe(RINGS.descriptors + 16 * i, TABLES + 64 * i, 48, 4, 0);
  describe(TABLES + 64 * i, HEADERS + 16 * i, 16, 1, 1);
  describe(TABLES + 64 * i + 16, DATA + BLOCK_BYTES * i, BLOCK_BYTES, 3, 2);
  describe(TABLES + 64 * i + 32, STATUS + i, 1, 2, 0);
}
let available = 0;
let block = 12345;
/** The driver's part: `count` more reads. */
function submit(count: number): void {
  for (let i = 0; i < count; i++) {
    block = (block * 1103515245 + 12345) & 0x7fff_ffff;
    view.setUint32(HEADERS + 16 * i + 8, (block % BLOCKS) * 8, true);
    view.setUint16(RINGS.driver + 4 + 2 * ((available + i) & (QUEUE_SIZE - 1)), i, true);
  }
  available = (available + count) & 0xffff;
  view.setUint16(RINGS.driver + 2, available, true);
}

const file = { fd, path: image, alignment: 1, isBlockDevice: false, readonly: false };
const disk = attachDisk({ format: "raw", file, sizeBytes: DISK_BYTES, sparse: false, ring: true });
const idle = {
  sizeBytes: DISK_BYTES,
  completionFd: -1,
  read: (_token: number, _iov: Uint8Array, _count: number, lengthBytes: number) => lengthBytes,
  write: () => IO_PENDING,
  flush: () => 0,
  discard: () => 0,
  writeZeroes: () => 0,
  submit: () => {},
  reap: () => {},
  drain: () => {},
  resize: () => 0,
  close: () => {},
};
const env: IoEnvironment = {
  watch: () => {},
  rewatch: () => {},
  unwatch: () => {},
  timer: () => () => {},
  post: () => {},
};
const newHandler = (on: typeof disk | typeof idle) =>
  createBlockHandler({
    id: "_disk0",
    memory,
    queues: [newQueue()],
    featuresLow: 0,
    featuresHigh: 0,
    backend: {
      image: undefined,
      readonly: false,
      protectSectorZero: false,
      discard: false,
      writeZeroes: false,
      serial: new Uint8Array(20),
      counters: createBlockCounters(),
    },
    env,
    config: new Uint8Array(BlockConfig.max_write_zeroes_seg + 8),
    interruptQueue: () => {},
    interruptConfig: () => {},
    fail: ({ fault }) => {
      throw new Error(fault);
    },
  }, { disk: on, limiter: undefined, nowUs: monotonicUsSmall });

const CLOCK_THREAD_CPUTIME_ID = 3;
const clock = Deno.dlopen("libc.so.6", { clock_gettime: { parameters: ["i32", "buffer"], result: "i32" } });
const timespec = new BigUint64Array(2);

/** Processor time of this thread: what others do meanwhile counts as little as it can. */
function cpuNs(): number {
  clock.symbols.clock_gettime(CLOCK_THREAD_CPUTIME_ID, timespec);
  return Number(timespec[0]) * 1e9 + Number(timespec[1]);
}

/** Bytes this isolate has allocated so far. */
function allocatedBytes(): number {
  return (getHeapStatistics() as unknown as { total_allocated_bytes: number }).total_allocated_bytes;
}

const lines: string[] = [];
/** Time of a call and the bytes it allocates, each divided by `per`. */
function stage(name: string, calls: number, per: number, body: () => void): void {
  const times: number[] = [];
  const heaps: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const heap = allocatedBytes();
    const began = cpuNs();
    for (let i = 0; i < calls; i++) body();
    const took = cpuNs() - began;
    const grown = allocatedBytes() - heap;
    if (round < WARM_UP) continue;
    times.push(took / calls / per);
    heaps.push(grown / calls / per);
  }
  const cells = [median(times).toFixed(0), Math.min(...times).toFixed(0), Math.min(...heaps).toFixed(1)];
  lines.push(name.padEnd(60) + cells.map((cell) => cell.padStart(10)).join(""));
}

const kick = eventfd();
const epoll = new Epoll(64);
epoll.add(kick, EPOLL.IN, 1);
stage("kick: eventfd write (a vCPU's exit does this in the kernel)", 20_000, 1, () => signalEvent(kick));
stage("kick: eventfd write, epoll_wait, eventfd read", 20_000, 1, () => {
  signalEvent(kick);
  epoll.wait(-1);
  drainEvent(kick);
});
stage("epoll_wait that finds nothing", 20_000, 1, () => void epoll.wait(0));
stage("driver's part alone, of 32", 3000, DEPTH, () => submit(DEPTH));

{
  const queue = newQueue();
  const chain = new DescriptorChain();
  stage("driver's part, walk, gather, used element, of 32", 3000, DEPTH, () => {
    submit(DEPTH);
    while (queue.pop(chain)) {
      chain.gather(true, 0, chain.writableBytes - 1);
      queue.push(chain.head, BLOCK_BYTES + 1);
    }
    queue.publish();
    queue.enableNotifications();
  });
}
{
  const handler = newHandler(idle);
  stage("whole handler without system call, of 32", 3000, DEPTH, () => {
    submit(DEPTH);
    handler.onKick(0);
  });
  stage("whole handler without system call, alone", 20_000, 1, () => {
    submit(1);
    handler.onKick(0);
  });
}
{
  const iov = new Uint8Array(new BigUint64Array([hostAddress + BigInt(DATA), BigInt(BLOCK_BYTES)]).buffer);
  let at = 0;
  stage("system call: 4 KiB read through the disk", 20_000, 1, () => {
    at = (at + 7919) % BLOCKS;
    disk.read(0, iov, 1, BLOCK_BYTES, at * BLOCK_BYTES);
  });
}
{
  const handler = newHandler(disk);
  stage("whole handler with system call, of 32", 1500, DEPTH, () => {
    submit(DEPTH);
    handler.onKick(0);
  });
  stage("whole handler with system call, alone", 20_000, 1, () => {
    submit(1);
    handler.onKick(0);
  });
}
/** A network interface that takes everything at once, or gives frames of 60 bytes as long as there are any. */
const port = {
  fd: 0,
  waiting: 0,
  receive: () => port.waiting-- > 0 ? 72 : -11,
  send: () => 72,
  sendFrame: () => 72,
  setOffload: () => 0,
  setEnabled: () => 0,
};
/** The driver's part: the first `count` descriptors of the table, one buffer each. */
function submitBuffers(count: number, flags: number): void {
  for (let i = 0; i < count; i++) {
    const at = RINGS.descriptors + 16 * i;
    view.setUint32(at, DATA + BLOCK_BYTES * i, true);
    view.setUint32(at + 4, 0, true);
    view.setUint32(at + 8, 2048, true);
    view.setUint32(at + 12, flags, true);
    view.setUint16(RINGS.driver + 4 + 2 * ((available + i) & (QUEUE_SIZE - 1)), i, true);
  }
  available = (available + count) & 0xffff;
  view.setUint16(RINGS.driver + 2, available, true);
}
for (const [name, index] of [["receiving", 0], ["sending", 1]] as const) {
  const queues = [SplitQueue.disabled(), SplitQueue.disabled()];
  queues[index] = newQueue();
  const backend = { fds: [0], counters: createNetCounters() };
  const net = createNetHandler({
    id: "_net1",
    memory,
    queues,
    featuresLow: 0,
    featuresHigh: 0,
    backend,
    env,
    config: new Uint8Array(64),
    interruptQueue: () => {},
    interruptConfig: () => {},
    fail: ({ fault }) => {
      throw new Error(fault);
    },
  }, { ports: [port], nowMs: () => 0 });
  for (const count of [DEPTH, 1]) {
    stage(`packets, ${name}, without system call, of ${count}`, 60_000 / count, count, () => {
      submitBuffers(count, 2 - 2 * index);
      port.waiting = count;
      net.onKick(index);
    });
  }
}
{
  const vm = new KvmVm(new KvmSystem().createVm(), { identityMapGpa: 0xfffb_c000, tssGpa: 0xfffb_d000 });
  vm.createVcpu(0);
  stage("notify: KVM_SIGNAL_MSI", 20_000, 1, () => void vm.signal(LAPIC, 0, VECTOR));
}

console.log("stage".padEnd(60) + ["median ns", "min ns", "bytes"].map((cell) => cell.padStart(10)).join(""));
console.log(lines.join("\n"));
Deno.exit(0);

/**
 * Cost of a block request from the driver's ring to the file and back, beside the bare system call.
 *
 * Run by hand: `deno run -A tests/perf/block_handler_bench.ts [directory]`. The guest's part is one store per batch; RAM is
 * a real mapping, so that the calls do what they do in a VM. Prints processor nanoseconds per request, lower quartiles of several rounds; the
 * directory (default: /dev/shm) chooses the file system.
 */
import { monotonicNs } from "@ffi/libc/clock.ts";
import { preadv, pwritev } from "@ffi/libc/io.ts";
import { MAP, map, PROT, wrap } from "@ffi/libc/mmap.ts";
import { attachDisk } from "@vmm/backends/disk/attach.ts";
import { openDisk, type OpenedDisk } from "@vmm/backends/disk/open.ts";
import { diskRequest, qemuImg } from "@vmm/backends/disk/testing/images.ts";
import { createBlockCounters } from "@vmm/devices/virtio/block/counters.ts";
import { createBlockHandler } from "@vmm/devices/virtio/block/handler.ts";
import { VIRTIO_BLK_F_FLUSH } from "@vmm/devices/virtio/block/spec.ts";
import { GuestMemory } from "@vmm/memory/guest_memory.ts";
import { SplitQueue } from "@vmm/virtio/queue/split.ts";

const RAM_BYTES = 64 << 20;
const DISK_BYTES = 64 << 20;
const QUEUE_SIZE = 128;
const ROUNDS = 9;
const ROUND_NS = 60e6;

const [DESCRIPTORS, AVAIL, USED, HEADERS, STATUSES, DATA] = [0, 0x4000, 0x8000, 0x10000, 0x20000, 0x100000];

const address = map(RAM_BYTES, PROT.READ | PROT.WRITE, MAP.PRIVATE | MAP.ANONYMOUS);
const buffer = wrap(address, RAM_BYTES);
const ram = new DataView(buffer);
const memory = new GuestMemory([{ gpa: 0, sizeBytes: RAM_BYTES, hostAddress: address, buffer }]);

const CLOCK_THREAD_CPUTIME_ID = 3;
const clock = Deno.dlopen("libc.so.6", { clock_gettime: { parameters: ["i32", "buffer"], result: "i32" } });
const timespec = new BigUint64Array(2);

/** Processor time of this thread: what others do at the same time does not count. */
function cpuNs(): number {
  clock.symbols.clock_gettime(CLOCK_THREAD_CPUTIME_ID, timespec);
  return Number(timespec[0]) * 1e9 + Number(timespec[1]);
}

interface Load {
  readonly name: string;
  readonly write: boolean;
  readonly bytes: number;
  readonly depth: number;
}

const LOADS: readonly Load[] = [1, 32].flatMap((depth) =>
  [false, true].flatMap((write) =>
    [4096, 131072].map((bytes) => ({
      name: `QD${depth} ${bytes / 1024} KiB ${write ? "write" : "read"}`,
      write,
      bytes,
      depth,
    }))
  )
);

/** Requests in the ring, at random places of the disk; the same ones come again and again. */
function describe(load: Load): void {
  for (let i = 0; i < QUEUE_SIZE / 4; i++) {
    const descriptor = (index: number, at: number, length: number, flags: number, next: number) => {
      const where = DESCRIPTORS + 16 * index;
      ram.setBigUint64(where, BigInt(at), true);
      ram.setUint32(where + 8, length, true);
      ram.setUint16(where + 12, flags, true);
      ram.setUint16(where + 14, next, true);
    };
    const header = HEADERS + 16 * i;
    ram.setUint32(header, load.write ? 1 : 0, true);
    descriptor(3 * i, header, 16, 1, 3 * i + 1);
    descriptor(3 * i + 1, DATA + i * load.bytes, load.bytes, load.write ? 1 : 3, 3 * i + 2);
    descriptor(3 * i + 2, STATUSES + i, 1, 2, 0);
  }
}

/** Lower quartile (machines are noisy) of the processor nanoseconds per request of `batch`, which carries out `depth` of them. */
function measure(depth: number, batch: () => void): number {
  const results: number[] = [];
  for (let round = 0; round < ROUNDS + 2; round++) {
    const start = cpuNs();
    let batches = 0;
    while (cpuNs() - start < ROUND_NS) {
      for (let i = 0; i < 64; i++) batch();
      batches += 64;
    }
    if (round >= 2) results.push((cpuNs() - start) / batches / depth);
  }
  return results.sort((a, b) => a - b)[results.length >> 2];
}

function benchHandler(opened: OpenedDisk, load: Load): number {
  describe(load);
  const queue = SplitQueue.create(memory, {
    size: QUEUE_SIZE,
    descriptors: DESCRIPTORS,
    driver: AVAIL,
    device: USED,
    eventIndex: true,
    indirect: true,
    nextAvail: 0,
    nextUsed: 0,
  });
  if (!(queue instanceof SplitQueue)) throw new Error(queue.fault);
  const disk = attachDisk(opened.description);
  let watched: (() => void) | undefined;
  const handler = createBlockHandler({
    id: "_disk0",
    memory,
    queues: [queue],
    featuresLow: 1 << VIRTIO_BLK_F_FLUSH,
    featuresHigh: 1,
    backend: {
      image: undefined,
      readonly: false,
      protectSectorZero: false,
      discard: true,
      writeZeroes: true,
      serial: new Uint8Array(20),
      counters: createBlockCounters(),
    },
    config: new Uint8Array(60),
    env: {
      watch: (_fd, _events, ready) => watched = () => ready(1),
      rewatch: () => {},
      unwatch: () => {},
      timer: (_delay, fire) => {
        fire();
        return () => {};
      },
      post: (event) => console.error(event),
    },
    interruptQueue: () => {},
    interruptConfig: () => {},
    fail: (fault) => {
      throw new Error(fault.fault);
    },
  }, { disk, nowUs: () => monotonicNs() / 1000 });
  ram.setUint32(AVAIL, 0, true);
  ram.setUint32(USED, 0, true);
  const avail = new Uint16Array(buffer, AVAIL, 2 + QUEUE_SIZE);
  const used = new Uint16Array(buffer, USED, 2);
  const sectors = DISK_BYTES / load.bytes;
  let head = 0;
  let place = 1;
  const time = measure(load.depth, () => {
    for (let i = 0; i < load.depth; i++) {
      place = (place * 75 + 74) % 65537;
      ram.setUint32(HEADERS + 16 * i + 8, place % sectors * (load.bytes / 512), true);
      avail[2 + (head + i) % QUEUE_SIZE] = 3 * i;
    }
    head = (head + load.depth) & 0xffff;
    Atomics.store(avail, 1, head);
    handler.onKick(0);
    // What the disk finishes later is fetched as the Worker's loop would.
    for (let spins = 0; Atomics.load(used, 1) !== head; spins++) {
      if (spins > 1e7) throw new Error("requests are missing");
      watched?.();
    }
  });
  handler.close();
  disk.close();
  return time;
}

function benchCall(fd: number, load: Load): number {
  const iov = new Uint8Array(16);
  const view = new DataView(iov.buffer);
  const sectors = DISK_BYTES / load.bytes;
  let place = 1;
  const call = load.write ? pwritev : preadv;
  return measure(load.depth, () => {
    for (let i = 0; i < load.depth; i++) {
      place = (place * 75 + 74) % 65537;
      view.setBigUint64(0, address + BigInt(DATA + i * load.bytes), true);
      view.setBigUint64(8, BigInt(load.bytes), true);
      if (call(fd, iov, 1, place % sectors * load.bytes) !== load.bytes) throw new Error("short transfer");
    }
  });
}

if (import.meta.main) {
  const directory = Deno.args[0] ?? "/dev/shm";
  const raw = Deno.makeTempFileSync({ dir: directory });
  const qcow2 = Deno.makeTempFileSync({ dir: directory });
  try {
    Deno.writeFileSync(raw, new Uint8Array(DISK_BYTES).fill(1));
    qemuImg("convert", "-f", "raw", "-O", "qcow2", raw, qcow2);
    const kinds: [string, OpenedDisk][] = [["raw", openDisk(diskRequest(raw, { image_type: "Raw" }))]];
    kinds.push(["qcow2", openDisk(diskRequest(qcow2, { image_type: "Qcow2" }))]);
    if (Deno.args.includes("direct")) {
      kinds.push(["raw direct", openDisk(diskRequest(raw, { image_type: "Raw", direct: true }))]);
      kinds.push(["qcow2 direct", openDisk(diskRequest(qcow2, { image_type: "Qcow2", direct: true }))]);
    }
    console.log(
      `${"ns per request".padEnd(24)}${"call".padStart(12)}${
        kinds.map(([kind]) => kind.padStart(14)).join("")
      }`,
    );
    for (const load of LOADS) {
      const bare = benchCall(kinds[0][1].description.file.fd, load);
      const times = kinds.map(([, opened]) => benchHandler(opened, load));
      const cells = times.map((time) => `${time.toFixed(0)} ${(bare / time).toFixed(2)}x`.padStart(14));
      console.log(`${load.name.padEnd(24)}${bare.toFixed(0).padStart(12)}${cells.join("")}`);
    }
    for (const [, opened] of kinds) opened.close();
  } finally {
    Deno.removeSync(raw);
    Deno.removeSync(qcow2);
  }
}

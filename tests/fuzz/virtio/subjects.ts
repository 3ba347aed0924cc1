/**
 * Every kind of virtio device over back-ends that do anything a host may do.
 *
 * Tests only. A new kind of device is a row in `SUBJECTS`.
 */
import type { CharInput } from "@vmm/bus/char_device.ts";
import { createBalloonHandler } from "@vmm/devices/virtio/balloon/handler.ts";
import { balloonModel } from "@vmm/devices/virtio/balloon/model.ts";
import { createBlockCounters } from "@vmm/devices/virtio/block/counters.ts";
import { createBlockHandler } from "@vmm/devices/virtio/block/handler.ts";
import { blockModel } from "@vmm/devices/virtio/block/model.ts";
import { CONSOLE_RESIZED, createConsoleHandler } from "@vmm/devices/virtio/console/handler.ts";
import { consoleModel } from "@vmm/devices/virtio/console/model.ts";
import { createIommuHandler } from "@vmm/devices/virtio/iommu/handler.ts";
import { iommuModel, lastAddress } from "@vmm/devices/virtio/iommu/model.ts";
import { AttachLayout, VIRTIO_IOMMU_T_ATTACH } from "@vmm/devices/virtio/iommu/spec.ts";
import { createNetCounters } from "@vmm/devices/virtio/net/counters.ts";
import { createNetHandler } from "@vmm/devices/virtio/net/handler.ts";
import { netModel } from "@vmm/devices/virtio/net/model.ts";
import { createVhostControl } from "@vmm/devices/virtio/net/vhost_user.ts";
import { createPmemHandler } from "@vmm/devices/virtio/pmem/handler.ts";
import { pmemModel } from "@vmm/devices/virtio/pmem/model.ts";
import { createRngHandler } from "@vmm/devices/virtio/rng/handler.ts";
import { rngModel } from "@vmm/devices/virtio/rng/model.ts";
import { createRtcHandler } from "@vmm/devices/virtio/rtc/handler.ts";
import { rtcModel } from "@vmm/devices/virtio/rtc/model.ts";
import { createVhostUserHandler } from "@vmm/devices/virtio/vhost_user/handler.ts";
import { createVsockHandler, VSOCK_TRANSPORT_RESET } from "@vmm/devices/virtio/vsock/handler.ts";
import { vsockModel } from "@vmm/devices/virtio/vsock/model.ts";
import { PacketHeader } from "@vmm/devices/virtio/vsock/spec.ts";
import { createWatchdogHandler, WATCHDOG_STATE } from "@vmm/devices/virtio/watchdog/handler.ts";
import { watchdogModel } from "@vmm/devices/virtio/watchdog/model.ts";
import { featureMask, VIRTIO_F_ACCESS_PLATFORM } from "@vmm/virtio/features.ts";
import { MappingTable } from "@vmm/virtio/iommu/mapping_table.ts";
import { type Disk, type DiskCompletion, IO_PENDING } from "@vmm/virtio/ports/disk.ts";
import { FLUSH_PENDING } from "@vmm/virtio/ports/flush.ts";
import type { PacketPort } from "@vmm/virtio/ports/packets.ts";
import type { ServedDevice } from "@vmm/virtio/ports/ring_backend.ts";
import type { HostStream } from "@vmm/virtio/ports/streams.ts";
import type { SubjectFactory, Surroundings } from "./harness.ts";

const EIO = 5;
const EAGAIN = 11;
const EINVAL = 22;
const SECTOR = 512;
const DISK_BYTES = 256 * SECTOR;
const QUEUE_SIZE = 64;
const GUEST_CID = 3;
const HOST_CID = 2;

function bytes(random: { below(limit: number): number }, length: number): Uint8Array {
  return Uint8Array.from({ length }, () => random.below(256));
}

/** Fills the front of guest buffers; the bytes written. */
function fill(
  { driver, random }: Surroundings,
  iov: Uint8Array<ArrayBuffer>,
  count: number,
  most: number,
): number {
  let left = most;
  for (const piece of driver.pieces(iov, count)) {
    const take = Math.min(left, piece.byteLength);
    piece.fill(random.below(256), 0, take);
    left -= take;
  }
  return most - left;
}

/** A disk whose operations fail, wait, or are short. Range checks are the handler's duty: what is wrong is a bug. */
class UnsteadyDisk implements Disk {
  readonly completionFd = 7;
  sizeBytes = DISK_BYTES;
  readonly #pending: { token: number; result: number }[] = [];

  constructor(private readonly around: Surroundings) {}

  read(
    token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    return this.#transfer(token, iov, count, lengthBytes, offset);
  }
  write(
    token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    return this.#transfer(token, iov, count, lengthBytes, offset);
  }
  flush(token: number): number {
    return this.#finish(token, 0);
  }
  discard(token: number, offset: number, lengthBytes: number): number {
    this.#checkRange(offset, lengthBytes);
    return this.#finish(token, 0);
  }
  writeZeroes(token: number, offset: number, lengthBytes: number): number {
    this.#checkRange(offset, lengthBytes);
    return this.#finish(token, 0);
  }
  submit(): void {
    this.around.busy();
  }
  reap(completed: DiskCompletion): void {
    for (const { token, result } of this.#pending.splice(0)) completed(token, result);
  }
  drain(completed: DiskCompletion): void {
    while (this.#pending.length > 0) this.reap(completed);
  }
  resize(sizeBytes: number): number {
    if (this.around.random.chance(0.3)) return -EIO;
    this.sizeBytes = sizeBytes;
    return 0;
  }
  close(): void {}

  #transfer(
    token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    this.#checkRange(offset, lengthBytes);
    const total = this.around.driver.pieces(iov, count).reduce((sum, piece) => sum + piece.byteLength, 0);
    if (total !== lengthBytes) throw new Error(`A transfer of ${lengthBytes} bytes with buffers of ${total}`);
    return this.#finish(token, lengthBytes);
  }

  #checkRange(offset: number, lengthBytes: number): void {
    if (lengthBytes === 0) return; // nothing at no place in particular
    if (offset % SECTOR !== 0 || offset < 0 || offset + lengthBytes > this.sizeBytes) {
      throw new Error(`The disk was asked for ${lengthBytes} bytes at ${offset}`);
    }
  }

  #finish(token: number, success: number): number {
    const { random } = this.around;
    this.around.busy();
    if (this.around.driver.calm) return success;
    const result = random.chance(0.1) ? -EIO : random.chance(0.05) ? success >> 1 : success;
    if (random.chance(0.5)) return result;
    this.#pending.push({ token, result });
    return IO_PENDING;
  }
}

function block(numQueues: number): SubjectFactory {
  return (around) => {
    const { random } = around;
    const disk = new UnsteadyDisk(around);
    const model = blockModel({
      sizeBytes: DISK_BYTES,
      readonly: false,
      canZero: true,
      sparse: true,
      numQueues,
      queueSize: QUEUE_SIZE,
      iommu: false,
      topology: { logical: 512, physical: 4096, minimumIo: 4096, optimalIo: 0 },
    });
    let nowUs = 0;
    const backend = {
      image: undefined,
      readonly: random.chance(0.1),
      protectSectorZero: random.chance(0.3),
      discard: random.chance(0.8),
      writeZeroes: random.chance(0.8),
      serial: new TextEncoder().encode("serial"),
      counters: createBlockCounters(),
    };
    const header = (type: number, sector: number) => {
      const view = new DataView(new ArrayBuffer(16));
      view.setUint32(0, type, true);
      view.setUint32(8, sector, true);
      view.setUint32(12, random.chance(0.05) ? random.below(2 ** 32) : 0, true);
      return { send: new Uint8Array(view.buffer) };
    };
    const range = () => {
      const view = new DataView(new ArrayBuffer(16));
      view.setUint32(0, random.below(300), true);
      view.setUint32(8, random.chance(0.2) ? 0xffff_ffff : random.below(300), true);
      view.setUint32(12, random.chance(0.2) ? random.below(2 ** 32) : random.below(2), true);
      return { send: new Uint8Array(view.buffer) };
    };
    const status = { receive: 1 };
    return {
      model,
      start: (activation) =>
        createBlockHandler({ ...activation, backend }, {
          disk,
          nowUs: () => nowUs = nowUs + 10 & 0x3fff_ffff,
        }),
      request: () => {
        const type = random.pick([0, 0, 1, 1, 4, 8, 11, 13, random.below(32)]);
        const head = header(type, random.below(280));
        const size = random.pick([SECTOR, SECTOR, 4096, 100, 0]);
        if (type === 0) return [head, { receive: size }, { receive: SECTOR }, status];
        if (type === 1) return [head, { send: bytes(random, size) }, status];
        if (type === 8) return [head, { receive: random.pick([20, 8, 64]) }, status];
        if (type === 11 || type === 13) {
          return [head, range(), ...(random.chance(0.2) ? [range()] : []), status];
        }
        return [head, status];
      },
      probe: {
        queue: 0,
        buffers: () => [{ send: new Uint8Array(16) }, { receive: SECTOR }, status],
      },
      happen: (order) => void order({ kind: "resize", sizeBytes: SECTOR * random.below(512) }),
    };
  };
}

/** A tap queue with packets of any length, or none, or errors. */
class UnsteadyPort implements PacketPort {
  constructor(readonly fd: number, private readonly around: Surroundings) {}

  receive(iov: Uint8Array<ArrayBuffer>, count: number): number {
    const { random } = this.around;
    this.around.busy();
    if (random.chance(0.5)) return -EAGAIN;
    if (random.chance(0.05)) return -EIO;
    return fill(this.around, iov, count, 12 + random.below(3_000));
  }
  send(iov: Uint8Array<ArrayBuffer>, count: number): number {
    this.around.busy();
    const total = this.around.driver.pieces(iov, count).reduce((sum, piece) => sum + piece.byteLength, 0);
    return this.around.random.pick([total, total, total, -EAGAIN, -EINVAL, -EIO]);
  }
  sendFrame(packet: Uint8Array<ArrayBuffer>): number {
    return packet.byteLength;
  }
  setOffload(): number {
    return !this.around.driver.calm && this.around.random.chance(0.3) ? -EINVAL : 0;
  }
  setEnabled(): number {
    return this.around.random.chance(0.3) ? -EINVAL : 0;
  }
}

const NET = {
  mac: Uint8Array.of(2, 0, 0, 0, 0, 1),
  mtu: 1500,
  queuePairs: 2,
  queueSize: QUEUE_SIZE,
  offloadCsum: true,
  offloadTso: true,
  offloadUfo: true,
  iommu: false,
};

/** An order for a control queue: class, command and what belongs to it, sometimes too short. */
function control({ random }: Surroundings) {
  const order = bytes(random, 2 + random.below(12));
  order[0] = random.pick([0, 1, 2, 3, 4, 5]);
  order[1] = random.below(3);
  return [{ send: order.subarray(0, 2) }, { send: order.subarray(2) }, { receive: 1 }];
}

const net: SubjectFactory = (around) => {
  const { random } = around;
  const ports = [new UnsteadyPort(8, around), new UnsteadyPort(9, around)];
  let nowMs = 0;
  const limited = random.chance(0.3);
  const backend = {
    fds: [8, 9],
    counters: createNetCounters(),
    limiter: limited ? { bandwidth: { size: 3_000, oneTimeBurst: 0, refillMs: 10 } } : undefined,
  };
  return {
    model: netModel(NET),
    start: (activation) =>
      createNetHandler(
        { ...activation, backend },
        { ports, nowMs: () => nowMs += random.below(3) },
      ),
    request: (queue) => {
      if (queue === 2 * NET.queuePairs) return control(around);
      if (queue % 2 === 0) return [{ receive: random.pick([1526, 12, 70_000, 11]) }];
      return [{ send: new Uint8Array(12) }, { send: bytes(random, random.pick([60, 1_500, 0])) }];
    },
    probe: {
      queue: 2 * NET.queuePairs,
      buffers: () => [{ send: Uint8Array.of(4, 0, 1, 0) }, { receive: 1 }],
    },
    happen: (order) => void order({ kind: "announce" }),
  };
};

const consoleSubject: SubjectFactory = (around) => {
  const { random } = around;
  let input: CharInput | undefined;
  const type = () => {
    around.busy();
    const room = input?.room() ?? 0;
    if (room < 0 || !Number.isInteger(room)) throw new Error(`The console has room for ${room} bytes`);
    if (room > 0) input!.push(bytes(random, room), 1 + random.below(room));
  };
  const device = {
    write: (output: Uint8Array, length: number) => {
      around.busy();
      if (length > output.byteLength) throw new Error("The console wrote more than it has");
    },
    setInput: (to: CharInput | undefined) => void (input = to),
    resumeInput: () => random.chance(0.5) && type(),
    windowSize: () => random.chance(0.5) ? { columns: random.below(0x1_0000), rows: 24 } : undefined,
    onResize: () => {},
  };
  return {
    model: consoleModel({ iommu: false }),
    start: (activation) => createConsoleHandler(activation, { device }),
    request: (queue) =>
      queue === 0
        ? [{ receive: random.pick([1, 64, 4096]) }]
        : [{ send: bytes(random, random.pick([1, 80, 5_000])) }],
    probe: { queue: 1, buffers: () => [{ send: Uint8Array.of(65) }] },
    happen: (order) => random.chance(0.5) ? type() : void order({ kind: CONSOLE_RESIZED }),
  };
};

const rng: SubjectFactory = (around) => {
  const { random } = around;
  const source = {
    pollFd: random.chance(0.5) ? 11 : -1,
    read: (iov: Uint8Array<ArrayBuffer>, count: number) => {
      around.busy();
      if (!around.driver.calm && random.chance(0.3)) return random.pick([-EAGAIN, -EIO, 0]);
      return fill(around, iov, count, around.driver.calm ? 1 << 20 : random.below(5_000));
    },
  };
  return {
    model: rngModel({ iommu: false }),
    start: (activation) => createRngHandler(activation, source),
    request: () => [{ receive: random.pick([1, 64, 4096, 70_000]) }],
    probe: { queue: 0, buffers: () => [{ receive: 32 }] },
  };
};

const balloon: SubjectFactory = (around) => {
  const { random } = around;
  const advise = (region: { sizeBytes: number }, offset: number, lengthBytes: number) => {
    around.busy();
    if (offset < 0 || lengthBytes <= 0 || offset + lengthBytes > region.sizeBytes) {
      throw new Error(`Pages at ${offset}, ${lengthBytes} bytes, of a region of ${region.sizeBytes}`);
    }
    return random.chance(0.1) ? -EINVAL : 0;
  };
  const pages = { release: advise, want: advise };
  const list = () => {
    const words = Uint32Array.from(
      { length: 1 + random.below(40) },
      () => random.chance(0.8) ? 256 + random.below(140) : random.below(2 ** 32),
    );
    return { send: new Uint8Array(words.buffer, 0, words.byteLength - random.pick([0, 0, 0, 1])) };
  };
  return {
    model: balloonModel({ sizeBytes: 1 << 20, deflateOnOom: true, freePageReporting: true, iommu: false }),
    start: (activation) => createBalloonHandler(activation, { pages }),
    request: (queue) => queue === 2 ? [{ receive: random.pick([4096, 8192, 100, 65_536]) }] : [list()],
    probe: { queue: 1, buffers: () => [{ send: Uint8Array.of(0, 1, 0, 0) }] },
  };
};

const pmem: SubjectFactory = (around) => {
  const { random } = around;
  const pends = random.chance(0.5);
  const file = {
    completionFd: pends ? 12 : -1,
    start: () => {
      around.busy();
      return !around.driver.calm && pends && random.chance(0.7) ? FLUSH_PENDING : random.pick([0, -EIO]);
    },
    finish: () => random.pick([0, 0, -EIO]),
  };
  return {
    model: pmemModel({ start: 2 ** 40, sizeBytes: 2 << 20, iommu: false }),
    start: (activation) => createPmemHandler(activation, { file }),
    request: () => [{ send: Uint8Array.of(random.below(2), 0, 0, 0) }, { receive: random.pick([4, 1, 16]) }],
    probe: {
      queue: 0,
      buffers: () => [{ send: new Uint8Array(4) }, { receive: 4 }],
    },
  };
};

const rtc: SubjectFactory = ({ random }) => ({
  model: rtcModel({ iommu: false }),
  start: (activation) => createRtcHandler(activation, { nowNs: () => 1_700_000_000_000_000_000n }),
  request: () => {
    const request = bytes(random, random.pick([8, 16, 7, 24]));
    new DataView(request.buffer).setUint16(0, random.pick([1, 2, 0x1000, 0x1001, 0x1002, 0xffff]), true);
    return [{ send: request }, { receive: random.pick([16, 8, 7, 64]) }];
  },
  probe: { queue: 0, buffers: () => [{ send: Uint8Array.of(0, 0x10, 0, 0, 0, 0, 0, 0) }, { receive: 16 }] },
});

const watchdog: SubjectFactory = ({ random }) => {
  let nowMs = 0;
  return {
    model: watchdogModel({ iommu: false }),
    start: (activation) =>
      createWatchdogHandler(activation, {
        enabled: random.chance(0.2),
        nowMs: () => nowMs += random.below(20_000),
      }),
    request: () => [{ receive: random.pick([4, 1, 16]) }],
    probe: { queue: 0, buffers: () => [{ receive: 4 }] },
    happen: (order) => void order({ kind: WATCHDOG_STATE }),
  };
};

/** A program on the host that sends, takes, ends and leaves as it likes. */
class UnsteadyStream implements HostStream {
  constructor(readonly fd: number, private readonly around: Surroundings) {}

  receive(iov: Uint8Array<ArrayBuffer>, count: number): number {
    const { random } = this.around;
    this.around.busy();
    const result = random.below(10);
    if (result < 4) return -EAGAIN;
    return result === 4 ? 0 : result === 5 ? -EIO : fill(this.around, iov, count, 1 + random.below(5_000));
  }
  receiveBytes(target: Uint8Array<ArrayBuffer>, _peek: boolean): number {
    const { random } = this.around;
    this.around.busy();
    if (random.chance(0.3)) return random.pick([-EAGAIN, 0, -EIO]);
    const text = new TextEncoder().encode(
      random.pick(["CONNECT 5\n", "CONNECT x\n", "CONN", "\n", "CONNECT 99999999999\n"]),
    );
    const part = text.subarray(0, target.byteLength);
    target.set(part);
    return part.byteLength;
  }
  send(iov: Uint8Array<ArrayBuffer>, count: number): number {
    const total = this.around.driver.pieces(iov, count).reduce((sum, piece) => sum + piece.byteLength, 0);
    return this.#taken(total);
  }
  sendBytes(data: Uint8Array<ArrayBuffer>): number {
    return this.#taken(data.byteLength);
  }
  endSending(): void {}
  close(): void {}

  #taken(total: number): number {
    const { random } = this.around;
    this.around.busy();
    return random.chance(0.5) ? total : random.chance(0.5) ? random.below(total + 1) || -EAGAIN : -32;
  }
}

const vsock: SubjectFactory = (around) => {
  const { random } = around;
  let nextFd = 100;
  const stream = () => new UnsteadyStream(nextFd++, around);
  const host = {
    listenFd: 13,
    accept: () => random.chance(0.8) ? -EAGAIN : stream(),
    connect: () => random.chance(0.7) ? stream() : random.pick([-2, -111, -EAGAIN]),
  };
  const packet = (op: number) => {
    const length = op === 5 ? random.pick([0, 1, 100, 4_000]) : 0;
    const view = new DataView(new ArrayBuffer(PacketHeader.size));
    view.setUint32(PacketHeader.src_cid, random.chance(0.95) ? GUEST_CID : random.below(8), true);
    view.setUint32(PacketHeader.dst_cid, random.chance(0.95) ? HOST_CID : random.below(8), true);
    view.setUint32(PacketHeader.src_port, 1_000 + random.below(6), true);
    view.setUint32(PacketHeader.dst_port, random.below(6), true);
    view.setUint32(PacketHeader.len, random.chance(0.9) ? length : random.below(2 ** 32), true);
    view.setUint16(PacketHeader.type, random.chance(0.97) ? 1 : random.below(4), true);
    view.setUint16(PacketHeader.op, op, true);
    view.setUint32(PacketHeader.flags, random.below(5), true);
    view.setUint32(PacketHeader.buf_alloc, random.pick([0, 1, 65_536, 0x4_0000, 0xffff_ffff]), true);
    view.setUint32(PacketHeader.fwd_cnt, random.pick([0, 1, 65_536, 0xffff_ffff]), true);
    return [{ send: new Uint8Array(view.buffer) }, ...(length > 0 ? [{ send: bytes(random, length) }] : [])];
  };
  return {
    model: vsockModel({ cid: GUEST_CID, iommu: false }),
    start: (activation) => createVsockHandler(activation, { host }),
    request: (queue) =>
      queue === 1
        ? packet(random.pick([1, 1, 2, 3, 4, 5, 5, 5, 6, 7, random.below(16)]))
        : [{ receive: random.pick([4 + 4096, 44, 43, 100, 70_000]) }],
    probe: { queue: 1, buffers: () => packet(6) },
    happen: (order) => void order({ kind: VSOCK_TRANSPORT_RESET }),
  };
};

/** A vhost-user network device: its rings are somebody else's, its control queue is ours. */
const vhostNet: SubjectFactory = (around) => {
  const { random } = around;
  const CONTROL = 2 * NET.queuePairs;
  let device: ServedDevice | undefined;
  const backend = {
    start: (served: ServedDevice) => void (device = served),
    stop: () => {
      const rings = device?.rings ?? [];
      device = undefined;
      const positions: (number | undefined)[] = [];
      for (const { index } of rings) {
        positions[index] = random.chance(0.5) ? undefined : random.below(0x1_0000);
      }
      return positions;
    },
    forget: () => {},
    kick: () => around.busy(),
    limit: (count: number) => {
      if (!(count >= 0 && count <= 2 * NET.queuePairs)) {
        throw new Error(`The back-end is to serve ${count} rings`);
      }
    },
    kickFd: (queue: number) => 20 + queue,
    clearKick: () => {},
  };
  const model = netModel(NET);
  return {
    model,
    start: (activation) =>
      createVhostUserHandler(activation, {
        backend,
        rings: CONTROL,
        local: (started) =>
          createVhostControl(started, {
            queuePairs: NET.queuePairs,
            limitPairs: (pairs) => backend.limit(2 * pairs),
          }),
      }),
    request: (queue) => queue === CONTROL ? control(around) : [{ receive: 1526 }],
    probe: { queue: CONTROL, buffers: () => [{ send: Uint8Array.of(4, 0, 1, 0) }, { receive: 1 }] },
    happen: () => {
      if (device === undefined) return;
      if (random.chance(0.5)) device.configChanged();
      else if (device.rings.length > 0) {
        const ring = random.pick(device.rings);
        device.interrupt(ring.index);
        ring.position(random.chance(0.5));
      }
    },
  };
};

const ENDPOINT = 0x10;
const PAGE_BYTES = 4096;

const iommu: SubjectFactory = ({ random }) => {
  const table = MappingTable.create(2, 64);
  table.addEndpoint(ENDPOINT);
  const request = () => {
    const view = new DataView(new ArrayBuffer(random.pick([20, 28, 36, 72, 3])));
    if (view.byteLength < 20) return { send: new Uint8Array(view.buffer) };
    view.setUint8(0, random.below(7));
    for (let at = 4; at + 4 <= view.byteLength; at += 4) {
      view.setUint32(
        at,
        random.pick([0, 0, 1, ENDPOINT, PAGE_BYTES, 0xfff, 0xffff_ffff, random.below(2 ** 32)]),
        true,
      );
    }
    return { send: new Uint8Array(view.buffer) };
  };
  const attach = () => {
    const view = new DataView(new ArrayBuffer(20));
    view.setUint8(0, VIRTIO_IOMMU_T_ATTACH);
    view.setUint32(AttachLayout.domain, random.below(2), true);
    view.setUint32(AttachLayout.endpoint, ENDPOINT, true);
    return { send: new Uint8Array(view.buffer) };
  };
  return {
    model: iommuModel(48),
    start: (activation) => createIommuHandler(activation, { table, lastAddress: lastAddress(48) }),
    request: () => [random.chance(0.3) ? attach() : request(), { receive: random.pick([4, 28, 3, 100]) }],
    probe: { queue: 0, buffers: () => [attach(), { receive: 4 }] },
  };
};

/** A device whose addresses are translated by a table that changes under it. */
function behindIommu(subject: SubjectFactory): SubjectFactory {
  return (around) => {
    const { random } = around;
    const table = MappingTable.create(1, 256);
    const endpoint = table.addEndpoint(ENDPOINT);
    const remap = () => {
      if (random.chance(0.1)) table.setBypass(random.chance(0.5));
      if (random.chance(0.1)) table.reset();
      table.attach(1, ENDPOINT, false);
      const first = random.chance(0.9) ? 0 : random.below(512);
      const last = first + random.pick([0, 1, 127, 511, 2 ** 21]);
      if (random.chance(0.5)) table.unmap(1, first, last);
      table.map(1, {
        first,
        last,
        target: random.chance(0.8) ? first : random.below(600),
        flags: random.below(4),
      });
    };
    const plain = subject({
      ...around,
      busy: () => {
        around.busy();
        if (!around.driver.calm && random.chance(0.1)) remap();
      },
    });
    return {
      ...plain,
      model: { ...plain.model, features: plain.model.features | featureMask(VIRTIO_F_ACCESS_PLATFORM) },
      endpoint: { table: table.buffer, endpoint },
      calmDown: () => {
        table.reset();
        table.setBypass(true);
      },
      happen: (order) => {
        remap();
        plain.happen?.(order);
      },
    };
  };
}

/** Every kind of device. */
export const SUBJECTS: Readonly<Record<string, SubjectFactory>> = {
  "block, one queue": block(1),
  "block, three queues": block(3),
  net,
  console: consoleSubject,
  rng,
  balloon,
  pmem,
  rtc,
  watchdog,
  vsock,
  "vhost-user net": vhostNet,
  iommu,
  "block behind an IOMMU": behindIommu(block(2)),
  "net behind an IOMMU": behindIommu(net),
};

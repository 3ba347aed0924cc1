/**
 * A vhost-user back-end for tests: speaks the protocol, and serves rings with the queue handlers of this project.
 *
 * Test framework; runs in a process of its own (`net_daemon.ts`, `probe_daemon.ts`), blocking.
 *
 * @module
 */
import { EPOLL } from "@ffi/libc/epoll.ts";
import { close, memfd, truncate } from "@ffi/libc/fd.ts";
import { drainEvent, signalEvent } from "@ffi/libc/io.ts";
import { MAP, map, PROT, wrap } from "@ffi/libc/mmap.ts";
import { accept, connectUnix, listenUnix, SocketMessage } from "@ffi/libc/socket.ts";
import {
  CONFIG_HEADER_BYTES,
  configPayload,
  encodeMessage,
  HEADER_BYTES,
  readHeader,
  requestName,
  u64Payload,
  VhostUser,
  vringState,
} from "@vmm/backends/vhost_user/protocol.ts";
import { IoLoop } from "@vmm/machine/io_loop.ts";
import { GuestMemory, type MemoryRegion } from "@vmm/memory/guest_memory.ts";
import type { Activation, HandlerFactory, QueueHandler } from "@vmm/virtio/device.ts";
import { hasFeature, VIRTIO_F_RING_EVENT_IDX, VIRTIO_F_RING_INDIRECT_DESC } from "@vmm/virtio/features.ts";
import { SplitQueue } from "@vmm/virtio/queue/split.ts";

/** What a back-end says of itself, and what it does. */
export interface DaemonOptions {
  readonly features: bigint;
  readonly protocolFeatures: bigint;
  readonly queueCount: number;
  readonly config?: Uint8Array;
  /** Told every message. */
  readonly onMessage?: (message: RecordedMessage) => void;
  /** Serves the rings once all are started. Absent: nobody does. */
  readonly start?: HandlerFactory;
  /** Told how many rings are enabled, whenever that may have changed. */
  readonly onEnabled?: (handler: QueueHandler, rings: number) => void;
}

/** A request as it came. */
export interface RecordedMessage {
  readonly name: string;
  /** Hexadecimal. */
  readonly payload: string;
  readonly descriptors: number;
  readonly needReply: boolean;
}

interface Ring {
  size: number;
  base: number;
  addresses: [descriptors: bigint, used: bigint, available: bigint] | undefined;
  kickFd: number;
  callFd: number;
  /** undefined until the front-end has said. */
  enabled: boolean | undefined;
}

interface Region extends MemoryRegion {
  /** Address in the front-end, in whose terms rings are given. */
  readonly frontEndAddress: bigint;
}

const RESERVED_FEATURES = 1n << 30n;
const INFLIGHT_REGION_BYTES = 4096;

/** One back-end with one connection at a time. */
export class Daemon {
  readonly loop = new IoLoop((error) => console.error(error));
  readonly #message = new SocketMessage(8192, 16);
  #fd = -1;
  #buffer = new Uint8Array(0);
  #descriptors: number[] = [];
  #rings = new Map<number, Ring>();
  #regions: Region[] = [];
  #accepted = 0n;
  #handler: QueueHandler | undefined;
  #queues: SplitQueue[] = [];

  constructor(private readonly options: DaemonOptions) {}

  /** Waits for front-ends at `path`, for ever. Prints "ready" first. */
  listen(path: string): void {
    const listenFd = listenUnix(path);
    this.loop.watch(listenFd, EPOLL.IN, () => {
      const fd = accept(listenFd);
      if (fd >= 0) this.#connected(fd);
    });
    console.log(JSON.stringify({ ready: true }));
    this.loop.run(() => false);
  }

  /** Connects to a front-end that listens at `path`, as soon as there is one, and again whenever it hangs up. */
  connect(path: string): void {
    console.log(JSON.stringify({ ready: true }));
    this.#seek(path);
    this.loop.run(() => false);
  }

  #seek(path: string): void {
    try {
      this.#connected(connectUnix(path), () => this.#seek(path));
    } catch {
      this.loop.timer(50, () => this.#seek(path));
    }
  }

  #connected(fd: number, ended: () => void = () => {}): void {
    this.#disconnect();
    this.#fd = fd;
    this.loop.watch(fd, EPOLL.IN, () => {
      if (this.#read()) return;
      this.#disconnect();
      ended();
    });
  }

  #disconnect(): void {
    if (this.#fd < 0) return;
    this.#stop();
    this.loop.unwatch(this.#fd);
    close(this.#fd);
    this.#fd = -1;
    for (const { kickFd, callFd } of this.#rings.values()) {
      this.loop.unwatch(kickFd);
      close(kickFd);
      close(callFd);
    }
    this.#rings.clear();
    this.#buffer = new Uint8Array(0);
    this.options.onMessage?.({ name: "HANG-UP", payload: "", descriptors: 0, needReply: false });
  }

  /** False when the other side is gone. One message at a time: descriptors belong to the message they came with. */
  #read(): boolean {
    const count = this.#message.receive(this.#fd, this.#missing());
    this.#descriptors.push(...this.#message.descriptors);
    if (count === -11) return true;
    if (count <= 0) return false;
    const joined = new Uint8Array(this.#buffer.byteLength + count);
    joined.set(this.#buffer);
    joined.set(this.#message.data.subarray(0, count), this.#buffer.byteLength);
    this.#buffer = joined;
    if (this.#missing() > 0) return true;
    const header = readHeader(this.#buffer);
    if ("fault" in header) throw new Error(header.fault);
    const payload = this.#buffer.slice(HEADER_BYTES);
    this.#buffer = new Uint8Array(0);
    const descriptors = this.#descriptors;
    this.#descriptors = [];
    this.options.onMessage?.({
      name: requestName(header.request),
      payload: payload.toHex(),
      descriptors: descriptors.length,
      needReply: header.needReply,
    });
    if (header.request === VhostUser.GET_INFLIGHT_FD) {
      this.#answerInflight(payload);
      return true;
    }
    const answer = this.#handle(header.request, payload, descriptors);
    if (answer !== undefined) this.#answer(header.request, answer);
    else if (header.needReply) this.#answer(header.request, u64Payload(0));
    return true;
  }

  #missing(): number {
    const have = this.#buffer.byteLength;
    if (have < HEADER_BYTES) return HEADER_BYTES - have;
    const header = readHeader(this.#buffer);
    if ("fault" in header) throw new Error(header.fault);
    return HEADER_BYTES + header.sizeBytes - have;
  }

  #answer(request: number, payload: Uint8Array, descriptors: number[] = []): void {
    this.#message.send(this.#fd, encodeMessage(request, payload, { reply: true }), descriptors);
  }

  /** A region in which nothing is ever noted: this daemon finishes a request before it takes the next. */
  #answerInflight(request: Uint8Array): void {
    const fd = memfd("inflight");
    truncate(fd, INFLIGHT_REGION_BYTES);
    const payload = request.slice();
    new DataView(payload.buffer).setBigUint64(0, BigInt(INFLIGHT_REGION_BYTES), true);
    this.#answer(VhostUser.GET_INFLIGHT_FD, payload, [fd]);
    close(fd);
  }

  #ring(index: number): Ring {
    let ring = this.#rings.get(index);
    if (ring === undefined) {
      ring = { size: 0, base: 0, addresses: undefined, kickFd: -1, callFd: -1, enabled: undefined };
      this.#rings.set(index, ring);
    }
    return ring;
  }

  #handle(request: number, payload: Uint8Array, descriptors: number[]): Uint8Array | undefined {
    const { options } = this;
    const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
    const [index, number] = payload.byteLength >= 8
      ? [view.getUint32(0, true), view.getUint32(4, true)]
      : [0, 0];
    switch (request) {
      case VhostUser.GET_FEATURES:
        return u64Payload(options.features | (options.protocolFeatures === 0n ? 0n : RESERVED_FEATURES));
      case VhostUser.GET_PROTOCOL_FEATURES:
        return u64Payload(options.protocolFeatures);
      case VhostUser.GET_QUEUE_NUM:
        return u64Payload(options.queueCount);
      case VhostUser.SET_FEATURES:
        this.#accepted = view.getBigUint64(0, true);
        return undefined;
      case VhostUser.GET_CONFIG: {
        const { config } = options;
        if (config === undefined || number > config.byteLength) return configPayload(0, new Uint8Array(0));
        return configPayload(0, config.subarray(0, number));
      }
      case VhostUser.SET_CONFIG:
        options.config?.set(payload.subarray(CONFIG_HEADER_BYTES), index);
        return undefined;
      case VhostUser.SET_MEM_TABLE:
        this.#regions = descriptors.map((fd, i) => mapRegion(view, 8 + 32 * i, fd));
        return undefined;
      case VhostUser.ADD_MEM_REG:
        this.#regions.push(mapRegion(view, 8, descriptors[0]));
        return undefined;
      case VhostUser.SET_VRING_NUM:
        this.#ring(index).size = number;
        return undefined;
      case VhostUser.SET_VRING_BASE:
        this.#ring(index).base = number;
        return undefined;
      case VhostUser.SET_VRING_ADDR:
        this.#ring(index).addresses = [
          view.getBigUint64(8, true),
          view.getBigUint64(16, true),
          view.getBigUint64(24, true),
        ];
        return undefined;
      case VhostUser.SET_VRING_CALL:
        close(this.#ring(index & 0xff).callFd);
        this.#ring(index & 0xff).callFd = descriptors[0] ?? -1;
        return undefined;
      case VhostUser.SET_VRING_KICK:
        close(this.#ring(index & 0xff).kickFd);
        this.#ring(index & 0xff).kickFd = descriptors[0] ?? -1;
        return undefined;
      case VhostUser.SET_VRING_ENABLE:
        this.#ring(index).enabled = number === 1;
        this.#startWhenReady();
        this.#tellEnabled();
        return undefined;
      case VhostUser.GET_VRING_BASE: {
        this.#stop();
        const base = this.#queues[index]?.nextAvail ?? this.#ring(index).base;
        this.#ring(index).enabled = undefined;
        return vringState(index, base);
      }
      default:
        descriptors.forEach(close);
        return undefined;
    }
  }

  #startWhenReady(): void {
    const { start } = this.options;
    const rings = [...this.#rings.entries()];
    if (start === undefined || this.#handler !== undefined) return;
    if (!rings.every(([, ring]) => ring.enabled !== undefined && ring.kickFd >= 0)) return;
    const memory = new GuestMemory(this.#regions);
    const [low, high] = [Number(this.#accepted & 0xffff_ffffn), Number(this.#accepted >> 32n)];
    this.#queues = [];
    for (const [index, ring] of rings) {
      const [descriptors, device, driver] = ring.addresses!.map((address) => this.#guestAddress(address));
      const queue = SplitQueue.create(memory, {
        size: ring.size,
        descriptors,
        driver,
        device,
        eventIndex: hasFeature(low, high, VIRTIO_F_RING_EVENT_IDX),
        indirect: hasFeature(low, high, VIRTIO_F_RING_INDIRECT_DESC),
        nextAvail: ring.base,
        nextUsed: 0,
      });
      if (!(queue instanceof SplitQueue)) throw new Error(queue.fault);
      queue.takeBack(ring.base);
      this.#queues[index] = queue;
    }
    const activation: Activation = {
      id: "daemon",
      memory,
      queues: this.#queues,
      featuresLow: low,
      featuresHigh: high,
      backend: undefined,
      env: {
        watch: this.loop.watch.bind(this.loop),
        rewatch: this.loop.rewatch.bind(this.loop),
        unwatch: this.loop.unwatch.bind(this.loop),
        timer: this.loop.timer.bind(this.loop),
        post: (event) => console.error(JSON.stringify(event)),
      },
      config: new Uint8Array(64),
      interruptQueue: (index) => signalEvent(this.#rings.get(index)!.callFd),
      interruptConfig: () => {},
      fail: (fault) => console.error(JSON.stringify(fault)),
    };
    const handler = this.#handler = start(activation);
    for (const [index, ring] of rings) {
      this.loop.watch(ring.kickFd, EPOLL.IN, () => {
        drainEvent(ring.kickFd);
        handler.onKick(index);
      });
      handler.onKick(index);
    }
  }

  #tellEnabled(): void {
    const count = [...this.#rings.values()].filter((ring) => ring.enabled).length;
    if (this.#handler !== undefined) this.options.onEnabled?.(this.#handler, count);
  }

  #guestAddress(address: bigint): number {
    const region = this.#regions.find((r) =>
      address >= r.frontEndAddress && address < r.frontEndAddress + BigInt(r.sizeBytes)
    );
    if (region === undefined) throw new Error(`A ring at 0x${address.toString(16)} lies in no region`);
    return region.gpa + Number(address - region.frontEndAddress);
  }

  #stop(): void {
    if (this.#handler === undefined) return;
    this.#handler.drain();
    this.#handler.close();
    this.#handler = undefined;
    for (const { kickFd } of this.#rings.values()) this.loop.unwatch(kickFd);
  }
}

function mapRegion(view: DataView, at: number, fd: number): Region {
  const sizeBytes = Number(view.getBigUint64(at + 8, true));
  const offset = Number(view.getBigUint64(at + 24, true));
  const hostAddress = map(sizeBytes, PROT.READ | PROT.WRITE, MAP.SHARED, fd, offset);
  close(fd);
  return {
    gpa: Number(view.getBigUint64(at, true)),
    sizeBytes,
    hostAddress,
    buffer: wrap(hostAddress, sizeBytes),
    frontEndAddress: view.getBigUint64(at + 16, true),
  };
}

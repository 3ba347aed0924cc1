/**
 * A network device on mock drivers' queues and fake taps, for tests.
 *
 * L4, tests only. Each queue has RAM of its own; host addresses are guest addresses.
 */
import type { LimiterConfig } from "@vmm/base/rate_limiter.ts";
import type { Activation, GuestFault, QueueHandler } from "@vmm/virtio/device.ts";
import { featureMask } from "@vmm/virtio/features.ts";
import type { PacketPort } from "@vmm/virtio/ports/packets.ts";
import { MockDriver, type MockOptions } from "@vmm/virtio/testing/mock_driver.ts";
import { createNetCounters } from "../counters.ts";
import { createNetHandler, type NetBackend } from "../handler.ts";
import { netModel } from "../model.ts";
import {
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_STATUS,
} from "../spec.ts";

const EAGAIN = 11;
const EINVAL = 22;
const RAM_STRIDE = 0x100_0000;
/** MAC address of the device. */
export const MAC = Uint8Array.of(0x2e, 1, 2, 3, 4, 5);

/** A tap queue: arrays of packets, header included. */
export class FakePort implements PacketPort {
  readonly incoming: Uint8Array[] = [];
  readonly sent: Uint8Array[] = [];
  readonly frames: Uint8Array[] = [];
  offload = -1;
  enabled: boolean | undefined;
  receives = 0;
  /** Result of the next calls instead of success. */
  receiveResult: number | undefined;
  sendResult: number | undefined;
  offloadResult = 0;

  constructor(readonly fd: number, private readonly drivers: readonly MockDriver[]) {}

  receive(iov: Uint8Array<ArrayBuffer>, count: number): number {
    this.receives++;
    if (this.receiveResult !== undefined) return this.receiveResult;
    const packet = this.incoming.shift();
    if (packet === undefined) return -EAGAIN;
    let done = 0;
    for (const piece of this.#pieces(iov, count)) {
      const part = packet.subarray(done, done + piece.byteLength);
      piece.set(part);
      done += part.byteLength;
    }
    return done;
  }

  send(iov: Uint8Array<ArrayBuffer>, count: number): number {
    if (this.sendResult !== undefined) return this.sendResult;
    const packet = Uint8Array.from(this.#pieces(iov, count).flatMap((piece) => [...piece]));
    if (packet.byteLength < 12) return -EINVAL;
    this.sent.push(packet);
    return packet.byteLength;
  }

  sendFrame(packet: Uint8Array<ArrayBuffer>): number {
    this.frames.push(packet);
    return packet.byteLength;
  }

  setOffload(flags: number): number {
    this.offload = flags;
    return this.offloadResult;
  }

  setEnabled(on: boolean): number {
    this.enabled = on;
    return 0;
  }

  #pieces(iov: Uint8Array<ArrayBuffer>, count: number): Uint8Array[] {
    const view = new DataView(iov.buffer, iov.byteOffset);
    return Array.from({ length: count }, (_, i) => {
      const address = Number(view.getBigUint64(16 * i, true));
      const length = Number(view.getBigUint64(16 * i + 8, true));
      for (const driver of this.drivers) {
        const piece = driver.memory.bytes(address, length);
        if (piece !== undefined) return piece;
      }
      throw new Error(`the handler gave address ${address} outside RAM to the tap`);
    });
  }
}

/** What a test may change. */
export interface NetRigOptions extends MockOptions {
  readonly pairs?: number;
  readonly features?: bigint;
  readonly limiter?: LimiterConfig;
}

/** See the module. Driver 2i receives, 2i+1 sends, the last one is the control queue. */
export class NetRig {
  readonly drivers: MockDriver[];
  readonly ports: FakePort[];
  readonly handler: QueueHandler;
  readonly config: Uint8Array;
  readonly counters = createNetCounters();
  readonly faults: GuestFault[] = [];
  readonly posted: { kind: string }[] = [];
  readonly timers: { delayMs: number; fire: () => void }[] = [];
  /** Events each descriptor is watched for. */
  readonly watched = new Map<number, number>();
  readonly #ready = new Map<number, (events: number) => void>();
  interrupts: number[] = [];
  configInterrupts = 0;
  nowMs = 1000;

  constructor(options: NetRigOptions = {}) {
    const pairs = options.pairs ?? 1;
    this.drivers = Array.from(
      { length: 2 * pairs + 1 },
      (_, i) => new MockDriver({ size: 64, ...options, ramBase: (i + 1) * RAM_STRIDE }),
    );
    this.ports = Array.from({ length: pairs }, (_, i) => new FakePort(100 + i, this.drivers));
    const features = options.features ??
      featureMask(VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MAC, VIRTIO_NET_F_STATUS, VIRTIO_NET_F_GUEST_ANNOUNCE);
    this.config = netModel({
      mac: MAC,
      mtu: 1500,
      queuePairs: pairs,
      queueSize: 64,
      offloadCsum: true,
      offloadTso: true,
      offloadUfo: true,
      iommu: false,
    }).config;
    const activation: Activation<NetBackend> = {
      id: "_net1",
      memory: this.drivers[0].memory,
      queues: this.drivers.map((driver) => driver.queue()),
      featuresLow: Number(features & 0xffff_ffffn),
      featuresHigh: Number(features >> 32n),
      backend: { fds: this.ports.map((port) => port.fd), counters: this.counters, limiter: options.limiter },
      config: this.config,
      env: {
        watch: (fd, events, ready) => {
          this.watched.set(fd, events);
          this.#ready.set(fd, ready);
        },
        rewatch: (fd, events) => this.watched.set(fd, events),
        unwatch: (fd) => this.watched.delete(fd),
        timer: (delayMs, fire) => {
          const timer = { delayMs, fire };
          this.timers.push(timer);
          return () => {
            const at = this.timers.indexOf(timer);
            if (at >= 0) this.timers.splice(at, 1);
          };
        },
        post: (event) => this.posted.push(event),
      },
      interruptQueue: (index) => this.interrupts.push(index),
      interruptConfig: () => this.configInterrupts++,
      fail: (fault) => this.faults.push(fault),
    };
    this.handler = createNetHandler(activation, { ports: this.ports, nowMs: () => this.nowMs });
  }

  /** Tells the handler that a tap is ready, if it wants to know. */
  ready(pair: number, events: number): void {
    const fd = this.ports[pair].fd;
    const wanted = (this.watched.get(fd) ?? 0) & events;
    if (wanted !== 0) this.#ready.get(fd)!(wanted);
  }

  /** Fires the oldest timer. */
  fire(): void {
    this.timers.shift()!.fire();
  }

  /** Sends an order on the control queue; the answer byte. */
  control(...bytes: number[]): number | undefined {
    const driver = this.drivers[this.drivers.length - 1];
    const { addresses } = driver.submit([{ send: Uint8Array.from(bytes) }, { receive: 1 }]);
    driver.at(addresses[1], 1)[0] = 0xee;
    this.handler.onKick(this.drivers.length - 1);
    return driver.complete() && driver.at(addresses[1], 1)[0];
  }
}

/** A packet of `length` bytes behind an empty header. */
export function packet(length: number, seed = 0): Uint8Array {
  return Uint8Array.from({ length: 12 + length }, (_, i) => i < 12 ? 0 : (i * 7 + seed) & 0xff);
}

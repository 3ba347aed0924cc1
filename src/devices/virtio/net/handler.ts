/**
 * Serves the queues of a network device.
 *
 * L4, I/O Worker. Pair i has receive queue 2i and transmit queue 2i+1; the control queue follows the last pair, or the first
 * one if the driver did not negotiate multi-queue. Source: virtio 1.2 §5.1.2, §5.1.5, §5.1.6.
 */
import type { LimiterConfig } from "@vmm/base/rate_limiter.ts";
import type { Activation, QueueHandler } from "@vmm/virtio/device.ts";
import { hasFeature } from "@vmm/virtio/features.ts";
import type { PacketPort } from "@vmm/virtio/ports/packets.ts";
import { DescriptorChain } from "@vmm/virtio/queue/chain.ts";
import { type ControlTarget, NO_ANSWER, runControl } from "./control.ts";
import { NetCounters } from "./counters.ts";
import { type PairSurroundings, QueuePair } from "./queue_pair.ts";
import {
  NetConfigLayout,
  tapOffloads,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_S_ANNOUNCE,
} from "./spec.ts";
import { reverseArpPacket } from "./announce.ts";

/** What main tells a network device's handler: plain and cloneable. */
export interface NetBackend {
  /** Tap descriptors, one per queue pair. */
  readonly fds: readonly number[];
  /** Made by `createNetCounters`. */
  readonly counters: SharedArrayBuffer;
  /** The same numbers for receiving and for sending, each with buckets of its own. */
  readonly limiter?: LimiterConfig;
}

/** What the handler is given besides the activation. */
export interface NetHandlerOptions {
  /** One per queue pair. */
  readonly ports: readonly PacketPort[];
  /** Milliseconds of a clock that never goes back. */
  readonly nowMs: () => number;
}

/** Control orders in one go. */
const TURN_ORDERS = 64;
/** Announcements after a restore or migration: how many, how far apart. */
const ANNOUNCEMENTS = 5;
const ANNOUNCE_INTERVAL_MS = 200;
const REPORT_INTERVAL_MS = 1000;
const EINVAL = 22;

/** Starts a network device. */
export function createNetHandler(
  activation: Activation<NetBackend>,
  options: NetHandlerOptions,
): QueueHandler {
  return new NetHandler(activation, options);
}

class NetHandler implements QueueHandler, ControlTarget {
  readonly maxPairs: number;
  readonly #activation: Activation<NetBackend>;
  readonly #ports: readonly PacketPort[];
  readonly #nowMs: () => number;
  readonly #pairs: QueuePair[] = [];
  readonly #chain = new DescriptorChain();
  /** −1 without a control queue. */
  readonly #controlIndex: number;
  #stopped = false;
  #paused = false;
  #announcementsLeft = 0;
  #cancelAnnounce: (() => void) | undefined;
  #cancelControl: (() => void) | undefined;
  #lastReportMs = -REPORT_INTERVAL_MS;
  /** Faults since then. */
  #unreported = 0;

  constructor(activation: Activation<NetBackend>, options: NetHandlerOptions) {
    this.#activation = activation;
    this.#ports = options.ports;
    this.#nowMs = options.nowMs;
    this.maxPairs = options.ports.length;
    const multiQueue = this.#has(VIRTIO_NET_F_MQ);
    const usable = multiQueue ? options.ports.length : 1;
    this.#controlIndex = this.#has(VIRTIO_NET_F_CTRL_VQ) ? 2 * usable : -1;
    const around: PairSurroundings = {
      env: activation.env,
      counters: new NetCounters(activation.backend.counters),
      limiter: activation.backend.limiter,
      nowMs: options.nowMs,
      interrupt: (index) => activation.interruptQueue(index),
      broken: (fault) => this.#break(fault),
      report: (text) => this.#report(text),
    };
    for (let pair = 0; pair < usable; pair++) {
      const [rx, tx] = [activation.queues[2 * pair], activation.queues[2 * pair + 1]];
      if (rx === undefined || tx === undefined) break;
      this.#pairs.push(new QueuePair(rx, tx, 2 * pair, options.ports[pair], around));
    }
    if ((activation.share ?? 0) !== 0) return; // the leading share has the interface's modes in hand
    if (!this.setOffloads(activation.featuresLow)) {
      this.#break("the host interface refuses the offloads the driver accepted");
    }
    // A driver starts with one pair and asks for more (§5.1.6.5.5). Queues that already moved were restored.
    let used = 1;
    for (let pair = 1; pair < usable; pair++) {
      if ((activation.queues[2 * pair]?.nextAvail ?? 0) !== 0) used = pair + 1;
    }
    this.setPairs(used);
  }

  onKick(index: number): void {
    if (this.#stopped) return;
    this.#paused = false;
    if (index === this.#controlIndex) return this.#control();
    const pair = this.#pairs[index >> 1];
    if (pair === undefined) return;
    if (index % 2 === 0) pair.kickReceive();
    else pair.kickTransmit();
  }

  onCommand(command: { kind: string } & Record<string, unknown>): unknown {
    if (command.kind !== "announce") return { result: -EINVAL };
    this.#announcementsLeft = ANNOUNCEMENTS;
    if (this.#has(VIRTIO_NET_F_STATUS) && this.#has(VIRTIO_NET_F_GUEST_ANNOUNCE)) {
      this.#activation.config[NetConfigLayout.status] |= VIRTIO_NET_S_ANNOUNCE;
    }
    this.#announce();
    return { result: 0 };
  }

  drain(): void {
    this.#paused = true;
    for (const pair of this.#pairs) pair.pause();
    this.#cancelAnnounce?.();
    this.#cancelControl?.();
    this.#cancelAnnounce = this.#cancelControl = undefined;
  }

  close(): void {
    this.drain();
    this.#stopped = true;
    for (const pair of this.#pairs) pair.close();
  }

  setPairs(pairs: number): void {
    // A tap with a single queue knows no other mode.
    if (this.#ports.length > 1) this.#ports.forEach((port, index) => port.setEnabled(index < pairs));
  }

  setOffloads(featuresLow: number): boolean {
    const flags = tapOffloads(featuresLow);
    return this.#ports.every((port) => port.setOffload(flags) >= 0);
  }

  acknowledgeAnnounce(): void {
    this.#activation.config[NetConfigLayout.status] &= ~VIRTIO_NET_S_ANNOUNCE;
  }

  #control(): void {
    const queue = this.#activation.queues[this.#controlIndex];
    if (queue === undefined) return;
    let left = TURN_ORDERS;
    do {
      while (left > 0 && queue.pop(this.#chain)) {
        left--;
        const answer = runControl(this.#chain, this);
        if (answer !== NO_ANSWER) this.#chain.writeU8(this.#chain.writableBytes - 1, answer);
        queue.push(this.#chain.head, answer === NO_ANSWER ? 0 : 1);
      }
    } while (left > 0 && queue.enableNotifications());
    if (queue.publish()) this.#activation.interruptQueue(this.#controlIndex);
    if (queue.fault !== undefined) return this.#break(queue.fault.fault);
    if (left === 0 && this.#cancelControl === undefined) {
      this.#cancelControl = this.#activation.env.timer(0, () => {
        this.#cancelControl = undefined;
        this.#control();
      });
    }
  }

  /** Tells the guest to announce itself until it has, and the host's network where the guest's address is now. */
  #announce(): void {
    this.#cancelAnnounce = undefined;
    if (this.#announcementsLeft === 0 || this.#stopped || this.#paused) return;
    this.#announcementsLeft--;
    const { config } = this.#activation;
    if ((config[NetConfigLayout.status] & VIRTIO_NET_S_ANNOUNCE) !== 0) this.#activation.interruptConfig();
    if (this.#has(VIRTIO_NET_F_MAC)) this.#ports[0]?.sendFrame(reverseArpPacket(config));
    this.#cancelAnnounce = this.#activation.env.timer(ANNOUNCE_INTERVAL_MS, () => this.#announce());
  }

  #has(bit: number): boolean {
    return hasFeature(this.#activation.featuresLow, this.#activation.featuresHigh, bit);
  }

  #break(fault: string): void {
    if (this.#stopped) return;
    this.#stopped = true;
    for (const pair of this.#pairs) pair.pause();
    this.#activation.fail({ fault });
  }

  /** A failing interface or a driver's nonsense is told once a second at most. */
  #report(text: string): void {
    const now = this.#nowMs();
    if (now - this.#lastReportMs < REPORT_INTERVAL_MS) {
      this.#unreported++;
      return;
    }
    this.#lastReportMs = now;
    const leftOut = this.#unreported;
    this.#unreported = 0;
    const { id, env } = this.#activation;
    env.post({ kind: "log", level: "warn", key: `${id} packet`, text: `${id}: ${text}`, leftOut });
  }
}

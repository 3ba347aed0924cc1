/**
 * One receive and one transmit queue over one queue of a tap.
 *
 * L4, I/O Worker. Packets go straight between the host interface and guest memory, one vectored call each; nothing is
 * allocated per packet. Without buffers from the guest, or beyond a rate limit, the tap is not watched at all: packets wait
 * in the kernel, whose queue is bounded. Source: virtio 1.2 §5.1.6.2–§5.1.6.4.
 */
import { createLimiterState, type LimiterConfig, RateLimiter } from "@vmm/base/rate_limiter.ts";
import type { IoEnvironment } from "@vmm/virtio/device.ts";
import type { PacketPort } from "@vmm/virtio/ports/packets.ts";
import { DescriptorChain } from "@vmm/virtio/queue/chain.ts";
import type { SplitQueue } from "@vmm/virtio/queue/split.ts";
import type { NetCounters } from "./counters.ts";
import { PacketHeader } from "./spec.ts";

/** What a queue pair needs from its device. */
export interface PairSurroundings {
  readonly env: IoEnvironment;
  readonly counters: NetCounters;
  readonly limiter?: LimiterConfig;
  readonly nowMs: () => number;
  interrupt(queueIndex: number): void;
  /** The driver broke queue `fault`. */
  broken(fault: string): void;
  /** The host interface failed; told rarely. */
  report(text: string): void;
}

const EPOLLIN = 1;
const EPOLLOUT = 4;
const EAGAIN = 11;
const EINVAL = 22;
/** Packets in one go; then other descriptors of the Worker get their turn. */
const TURN_PACKETS = 256;
/** Packets shown to the driver together. */
const BATCH_PACKETS = 64;

/** See the module. */
export class QueuePair {
  readonly #chain = new DescriptorChain();
  readonly #rxLimiter: RateLimiter | undefined;
  readonly #txLimiter: RateLimiter | undefined;
  #watched = 0;
  #running = false;
  /** The tap has gone or is broken: nothing more comes from it. */
  #rxDead = false;
  #txBlocked = false;
  #cancelRx: (() => void) | undefined;
  #cancelTx: (() => void) | undefined;
  /** Asks the Worker to look for the next packet to send instead of waiting for a notification. */
  readonly #attendTx: () => boolean;

  constructor(
    private readonly rx: SplitQueue,
    private readonly tx: SplitQueue,
    private readonly rxIndex: number,
    readonly port: PacketPort,
    private readonly around: PairSurroundings,
  ) {
    if (around.limiter !== undefined) {
      const fresh = () => new RateLimiter(createLimiterState(around.limiter!, around.nowMs()), around.nowMs);
      this.#rxLimiter = fresh();
      this.#txLimiter = fresh();
    }
    this.#attendTx = around.env.attend?.({ look: () => this.#look(), rest: () => this.#rest() }) ??
      (() => false);
    around.env.watch(port.fd, 0, (events) => this.#ready(events));
  }

  /** The driver has added receive buffers, or the device was just started or resumed. */
  kickReceive(): void {
    this.#running = true;
    this.#receive();
  }

  /** The driver has packets to send, or the device was just started or resumed. */
  kickTransmit(): void {
    this.#running = true;
    if (!this.#txBlocked) this.#transmit();
  }

  /** Lets go of the tap until the next kick. */
  pause(): void {
    this.#running = false;
    this.#cancelRx?.();
    this.#cancelTx?.();
    this.#cancelRx = this.#cancelTx = undefined;
    this.#txBlocked = false;
    this.#watch(0);
  }

  /** Forgets the tap for good. */
  close(): void {
    this.pause();
    this.around.env.unwatch(this.port.fd);
  }

  #ready(events: number): void {
    if (!this.#running) return this.#watch(0);
    if ((events & EPOLLOUT) !== 0 || this.#txBlocked) {
      this.#txBlocked = false;
      this.#transmit();
    }
    // An error or hang-up shows itself in the read.
    if ((events & ~EPOLLOUT) !== 0 && this.#running) this.#receive();
  }

  /** Sending goes on as soon as the driver has packets: nothing else holds it up. */
  get #waitsForPackets(): boolean {
    return this.#running && !this.#txBlocked && this.#cancelTx === undefined;
  }

  /** The Worker looks for packets to send. */
  #look(): boolean {
    if (!this.#waitsForPackets || !this.tx.hasRequests()) return false;
    this.#transmit();
    return true;
  }

  /** The Worker looks no more. */
  #rest(): boolean {
    if (!this.#waitsForPackets) return false;
    const hasMore = this.tx.enableNotifications();
    if (this.tx.fault !== undefined) this.around.broken(this.tx.fault.fault);
    return hasMore;
  }

  /** Fills the driver's buffers with what waits in the tap. */
  #receive(): void {
    if (this.#rxDead || this.#cancelRx !== undefined) return;
    let bytes = 0;
    let frames = 0;
    let listen = true;
    let left = TURN_PACKETS;
    for (; left > 0; left--) {
      if (!this.#nextBuffer()) {
        listen = false;
        break;
      }
      const got = this.#receiveOne();
      if (got === -EAGAIN) {
        this.rx.rewind(1);
        break;
      }
      if (got < 0 && got !== -EINVAL) {
        this.rx.rewind(1);
        this.#rxDead = true;
        listen = false;
        this.around.report(`net: rx: failed reading from tap: errno ${-got}`);
        break;
      }
      if (got > 0) {
        bytes += got - PacketHeader.size;
        frames++;
      }
      this.rx.push(this.#chain.head, Math.max(0, got));
      if ((TURN_PACKETS - left + 1) % BATCH_PACKETS === 0) this.#publish(this.rx, this.rxIndex);
      if (this.#rxLimiter !== undefined && !this.#rxLimiter.account(Math.max(0, got))) {
        listen = false;
        this.#cancelRx = this.#later(this.#rxLimiter, () => {
          this.#cancelRx = undefined;
          this.#receive();
        });
        break;
      }
    }
    this.#publish(this.rx, this.rxIndex);
    this.around.counters.received(frames, bytes);
    if (this.rx.fault !== undefined) return this.around.broken(this.rx.fault.fault);
    this.#watch(listen ? this.#watched | EPOLLIN : this.#watched & ~EPOLLIN);
  }

  /** Takes a receive buffer. Without one, asks to be told of the next: only then are notifications of use. */
  #nextBuffer(): boolean {
    while (!this.rx.pop(this.#chain)) {
      if (!this.rx.enableNotifications()) return false;
    }
    this.rx.disableNotifications();
    return true;
  }

  /** Reads a packet into the chain; its length, 0 or −EINVAL for a useless chain, or another `-errno`. */
  #receiveOne(): number {
    const chain = this.#chain;
    if (chain.readableCount > 0 || chain.writableBytes < PacketHeader.size) return -EINVAL;
    const count = chain.gather(true, 0, chain.writableBytes);
    const got = this.port.receive(chain.iovec, count);
    if (got < 0) return got;
    if (got < PacketHeader.size) return 0;
    // A packet never takes more than one chain.
    chain.writeU16(PacketHeader.num_buffers, 1);
    return got;
  }

  /** Sends what the driver has ready. */
  #transmit(): void {
    if (this.#cancelTx !== undefined) return;
    let bytes = 0;
    let frames = 0;
    let more = true;
    let blocked = false;
    this.tx.disableNotifications();
    for (let done = 1; done <= TURN_PACKETS; done++) {
      if (!this.tx.pop(this.#chain)) {
        this.#publish(this.tx, this.rxIndex + 1);
        if (this.tx.fault === undefined && !this.#attendTx() && this.tx.enableNotifications()) {
          this.tx.disableNotifications();
          continue;
        }
        more = false;
        break;
      }
      const sent = this.#transmitOne();
      if (sent === -EAGAIN) {
        this.tx.rewind(1);
        blocked = true;
        break;
      }
      if (sent >= PacketHeader.size) {
        bytes += sent - PacketHeader.size;
        frames++;
      } else if (sent < 0) {
        this.around.report(`net: tx: dropping frame: errno ${-sent}`);
      }
      this.tx.push(this.#chain.head, 0);
      if (done % BATCH_PACKETS === 0) this.#publish(this.tx, this.rxIndex + 1);
      if (this.#txLimiter !== undefined && !this.#txLimiter.account(Math.max(0, sent))) {
        more = false;
        this.#cancelTx = this.#later(this.#txLimiter, () => {
          this.#cancelTx = undefined;
          this.#transmit();
        });
        break;
      }
    }
    this.#publish(this.tx, this.rxIndex + 1);
    this.around.counters.sent(frames, bytes);
    if (this.tx.fault !== undefined) return this.around.broken(this.tx.fault.fault);
    this.#txBlocked = blocked;
    this.#watch(blocked ? this.#watched | EPOLLOUT : this.#watched & ~EPOLLOUT);
    if (more && !blocked) {
      this.#cancelTx = this.around.env.timer(0, () => {
        this.#cancelTx = undefined;
        this.#transmit();
      });
    }
  }

  /** Sends the packet in the chain; bytes, 0 for an empty chain, or `-errno`. */
  #transmitOne(): number {
    const chain = this.#chain;
    if (chain.count === 0) return 0;
    if (chain.readableCount !== chain.count) return -EINVAL;
    const count = chain.gather(false, 0, chain.readableBytes);
    if (chain.gatheredBytes !== chain.readableBytes) return -EINVAL;
    return this.port.send(chain.iovec, count);
  }

  #publish(queue: SplitQueue, index: number): void {
    if (queue.publish()) this.around.interrupt(index);
  }

  #later(limiter: RateLimiter, run: () => void): () => void {
    return this.around.env.timer(Math.max(1, limiter.blockedMs()), run);
  }

  #watch(events: number): void {
    if (events === this.#watched) return;
    this.#watched = events;
    this.around.env.rewatch(this.port.fd, events);
  }
}

/**
 * Serves the queue of an entropy device: fills the driver's buffers from a byte source.
 *
 * L4, I/O Worker. A request is cut to 16 KiB (the driver asks again), and after a mebibyte other devices get their turn.
 * A source that has nothing now is waited for; one that ended or fails is reported once and leaves its requests waiting.
 * Source: virtio 1.2 §5.4.6.
 */
import type { Activation, QueueHandler } from "@vmm/virtio/device.ts";
import type { ByteSource } from "@vmm/virtio/ports/bytes.ts";
import { DescriptorChain } from "@vmm/virtio/queue/chain.ts";
import type { SplitQueue } from "@vmm/virtio/queue/split.ts";

const REQUEST_QUEUE = 0;
const MAX_REQUEST_BYTES = 16 << 10;
const TURN_REQUESTS = 64;
const RETRY_MS = 100;
const EAGAIN = 11;
const EPOLLIN = 1;

/** Starts an entropy device on `source`. */
export function createRngHandler(activation: Activation, source: ByteSource): QueueHandler {
  return new RngHandler(activation, source);
}

class RngHandler implements QueueHandler {
  readonly #activation: Activation;
  readonly #source: ByteSource;
  readonly #queue: SplitQueue;
  readonly #chain = new DescriptorChain();
  readonly #again = () => {
    this.#cancelTimer = undefined;
    this.#serve();
  };
  #cancelTimer: (() => void) | undefined;
  /** Set while `pollFd` is watched. */
  #waiting = false;
  #broken = false;

  constructor(activation: Activation, source: ByteSource) {
    this.#activation = activation;
    this.#source = source;
    this.#queue = activation.queues[REQUEST_QUEUE];
  }

  onKick(_index: number): void {
    if (!this.#waiting && this.#cancelTimer === undefined) this.#serve();
  }

  /** Nothing is ever in flight between two calls. */
  drain(): void {}

  close(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#stopWaiting();
  }

  #serve(): void {
    if (this.#broken) return;
    let served = 0;
    this.#queue.disableNotifications();
    do {
      while (served < TURN_REQUESTS && this.#queue.pop(this.#chain)) {
        if (!this.#answer()) {
          this.#show();
          return;
        }
        served++;
      }
      this.#show();
      if (served >= TURN_REQUESTS) {
        this.#later(0);
        return;
      }
    } while (this.#queue.enableNotifications());
    // Called by a timer or a watch nobody else looks at the queue afterwards.
    if (this.#queue.fault !== undefined) this.#activation.fail(this.#queue.fault);
  }

  /** Fills one request; false when the source has nothing to give. */
  #answer(): boolean {
    const chain = this.#chain;
    const count = chain.gather(true, 0, MAX_REQUEST_BYTES);
    const result = count === 0 ? 0 : this.#source.read(chain.iovec, count);
    if (count === 0 || result > 0) {
      this.#queue.push(chain.head, result);
      return true;
    }
    this.#queue.rewind();
    if (result === -EAGAIN) this.#wait();
    else this.#fail(result);
    return false;
  }

  #show(): void {
    if (this.#queue.publish()) this.#activation.interruptQueue(REQUEST_QUEUE);
  }

  #wait(): void {
    const { pollFd } = this.#source;
    if (pollFd < 0) {
      this.#later(RETRY_MS);
      return;
    }
    this.#waiting = true;
    this.#activation.env.watch(pollFd, EPOLLIN, () => {
      this.#stopWaiting();
      this.#serve();
    });
  }

  #stopWaiting(): void {
    if (!this.#waiting) return;
    this.#waiting = false;
    this.#activation.env.unwatch(this.#source.pollFd);
  }

  #later(delayMs: number): void {
    this.#cancelTimer = this.#activation.env.timer(delayMs, this.#again);
  }

  #fail(result: number): void {
    this.#broken = true;
    const { id, env } = this.#activation;
    const reason = result === 0 ? "its file has ended" : `reading it failed with errno ${-result}`;
    const text = `The entropy source of "${id}" gives nothing more: ${reason}`;
    env.post({ kind: "log", level: "error", key: `rng:${id}`, text });
  }
}

/**
 * Serves the two queues of a console device.
 *
 * L4, I/O Worker. Input goes straight from the host into buffers the driver offered; without any it waits in the host, so
 * nothing is lost. Output never waits: the back-end keeps what its listener does not take.
 * Source: virtio 1.2 §5.3.6.
 */
import type { CharDevice, CharInput } from "@vmm/bus/char_device.ts";
import type { Activation, QueueHandler } from "@vmm/virtio/device.ts";
import { hasFeature } from "@vmm/virtio/features.ts";
import { DescriptorChain } from "@vmm/virtio/queue/chain.ts";
import type { SplitQueue } from "@vmm/virtio/queue/split.ts";
import { RECEIVE_QUEUE, setConsoleSize, TRANSMIT_QUEUE, VIRTIO_CONSOLE_F_SIZE } from "./model.ts";

/** Order of main: the size of the user's terminal may have changed. */
export const CONSOLE_RESIZED = "resize";

/** Bytes copied at once. */
const CHUNK_BYTES = 4096;
/** Bytes written before other devices of the Worker get their turn. */
const TURN_BYTES = 256 << 10;
/** Bytes of a begun request still written before a pause; what is beyond them is lost. */
const DRAIN_BYTES = 4 << 20;

/** What the handler is given besides the activation. */
export interface ConsoleHandlerOptions {
  /** The back-end; it outlives activations. */
  readonly device: CharDevice;
}

/** Starts a console device. */
export function createConsoleHandler(activation: Activation, options: ConsoleHandlerOptions): QueueHandler {
  return new ConsoleHandler(activation, options.device);
}

class ConsoleHandler implements QueueHandler, CharInput {
  readonly #chain = new DescriptorChain();
  readonly #chunk = new Uint8Array(CHUNK_BYTES);
  readonly #receive: SplitQueue;
  readonly #transmit: SplitQueue;
  /** A long request that was begun, and how much of it was written. */
  readonly #unfinished = new DescriptorChain();
  #written = 0;
  #begun = false;
  #cancelTurn: (() => void) | undefined;
  #connected = false;

  constructor(private readonly activation: Activation, private readonly device: CharDevice) {
    this.#receive = activation.queues[RECEIVE_QUEUE];
    this.#transmit = activation.queues[TRANSMIT_QUEUE];
    this.#updateSize();
  }

  onKick(index: number): void {
    this.#connect();
    if (index === RECEIVE_QUEUE) this.device.resumeInput();
    else if (index === TRANSMIT_QUEUE) this.#send(TURN_BYTES);
  }

  onCommand(command: { kind: string }): unknown {
    if (command.kind === CONSOLE_RESIZED) this.#updateSize();
    return undefined;
  }

  drain(): void {
    // Input must not reach the rings of a paused guest.
    this.#connected = false;
    this.device.setInput(undefined);
    this.device.onResize(undefined);
    this.#cancelTurn?.();
    this.#cancelTurn = undefined;
    if (this.#begun) this.#finishRequest(DRAIN_BYTES);
    if (this.#begun) this.#complete();
    this.#publish(TRANSMIT_QUEUE, this.#transmit);
  }

  close(): void {
    this.drain();
  }

  /** As `CharInput`: what the next buffer of the driver holds. */
  room(): number {
    const chain = this.#chain;
    // A driver could offer useless buffers as fast as they are given back: once around the ring is enough.
    for (let i = 0; i < this.#receive.size && this.#receive.pop(chain); i++) {
      if (chain.writableBytes > 0) {
        this.#receive.rewind();
        return chain.writableBytes;
      }
      this.#receive.push(chain.head, 0);
      this.#publish(RECEIVE_QUEUE, this.#receive);
    }
    this.#reportFault(this.#receive);
    return 0;
  }

  /** As `CharInput`. A driver that makes its buffers smaller between `room` and `push` loses bytes. */
  push(bytes: Uint8Array, length: number): void {
    const chain = this.#chain;
    const data = bytes.subarray(0, length);
    if (this.#receive.pop(chain)) this.#receive.push(chain.head, chain.writeBytes(0, data));
    this.#publish(RECEIVE_QUEUE, this.#receive);
    this.#reportFault(this.#receive);
  }

  #connect(): void {
    if (this.#connected) return;
    this.#connected = true;
    if (this.#receive.enabled) this.device.setInput(this);
    this.device.onResize(() => this.#updateSize());
  }

  #updateSize(): void {
    const { featuresLow, featuresHigh, config } = this.activation;
    if (!hasFeature(featuresLow, featuresHigh, VIRTIO_CONSOLE_F_SIZE)) return;
    const size = this.device.windowSize();
    if (size !== undefined && setConsoleSize(config, size)) this.activation.interruptConfig();
  }

  /** Writes requests until the queue is empty or `budget` bytes went out; the rest has its turn later. */
  #send(budget: number): void {
    if (this.#cancelTurn !== undefined) return;
    let left = budget;
    while (left > 0 && (this.#begun || this.#beginRequest())) left = this.#finishRequest(left);
    this.#publish(TRANSMIT_QUEUE, this.#transmit);
    this.#reportFault(this.#transmit);
    if (left > 0) return;
    this.#cancelTurn = this.activation.env.timer(0, () => {
      this.#cancelTurn = undefined;
      this.#send(TURN_BYTES);
    });
  }

  #beginRequest(): boolean {
    this.#begun = this.#transmit.pop(this.#unfinished);
    this.#written = 0;
    return this.#begun;
  }

  /** Writes up to `budget` bytes of the request at hand; returns what is left of the budget, 0 if it was not enough. */
  #finishRequest(budget: number): number {
    const chain = this.#unfinished;
    let left = budget - 1; // an empty request counts, too
    while (this.#written < chain.readableBytes) {
      if (left <= 0) return 0;
      const length = chain.readBytes(this.#written, this.#chunk);
      this.device.write(this.#chunk, length);
      this.#written += length;
      left -= length;
    }
    this.#complete();
    return Math.max(0, left);
  }

  #complete(): void {
    this.#transmit.push(this.#unfinished.head, 0);
    this.#begun = false;
  }

  #publish(index: number, queue: SplitQueue): void {
    if (queue.publish()) this.activation.interruptQueue(index);
  }

  /** Outside of `onKick` nobody else looks. */
  #reportFault(queue: SplitQueue): void {
    if (queue.fault !== undefined) this.activation.fail(queue.fault);
  }
}

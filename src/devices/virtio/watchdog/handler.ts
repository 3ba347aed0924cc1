/**
 * Watches over a guest that pings: the first ping starts a tick of 15 s, and a tick that finds the last ping more than
 * 20 s ago resets the VM.
 *
 * L4, I/O Worker. A ping is a buffer of the driver, returned with a 1 in its first byte. While the VM is paused nothing is
 * counted; afterwards the guest has the full time again. A device reset ends the watch until the next ping.
 * Source: machine model §8, observed page "Watchdog".
 */
import type { Activation, QueueHandler } from "@vmm/virtio/device.ts";
import type { DescriptorChain } from "@vmm/virtio/queue/chain.ts";
import { LATER, QueueServer } from "@vmm/virtio/queue/server.ts";

const PING_QUEUE = 0;
const TICK_MS = 15_000;
const LIMIT_SECONDS = 20;
const MS_PER_SECOND = 1000;

/** Order of main: says whether the guest is watched, for a snapshot. Answer: `{ enabled: boolean }`. */
export const WATCHDOG_STATE = "watchdog-state";

/** What main tells a watchdog: plain and cloneable. */
export interface WatchdogBackend {
  /** Restored from a snapshot of a guest that was watched: the first activation starts the watch. */
  readonly enabled: boolean;
}

/** What the handler is given besides the activation. */
export interface WatchdogHandlerOptions {
  /** Starts watching at once. */
  readonly enabled: boolean;
  /** Milliseconds of a clock that never goes back. */
  readonly nowMs: () => number;
}

/** Starts a watchdog. */
export function createWatchdogHandler(activation: Activation, options: WatchdogHandlerOptions): QueueHandler {
  return new WatchdogHandler(activation, options);
}

class WatchdogHandler implements QueueHandler {
  readonly #server: QueueServer;
  readonly #nowMs: () => number;
  #enabled: boolean;
  #lastPingMs = 0;
  #cancelTick: (() => void) | undefined;

  constructor(private readonly activation: Activation, options: WatchdogHandlerOptions) {
    this.#server = new QueueServer(activation, PING_QUEUE, (chain) => this.#ping(chain));
    this.#nowMs = options.nowMs;
    this.#enabled = options.enabled;
  }

  onKick(_index: number): void {
    if (this.#enabled && this.#cancelTick === undefined) this.#watch(); // after a pause or restore
    this.#server.kick();
  }

  onCommand(command: { kind: string }): unknown {
    return command.kind === WATCHDOG_STATE ? { enabled: this.#enabled } : undefined;
  }

  /** The next kick, that of `resume`, goes on watching. */
  drain(): void {
    this.#server.stop();
    this.#cancelTick?.();
    this.#cancelTick = undefined;
  }

  close(): void {
    this.drain();
  }

  #ping(chain: DescriptorChain): number {
    if (chain.readableCount > 0 || chain.writableBytes === 0) {
      this.activation.fail({ fault: "a ping needs a buffer to write to" });
      return LATER;
    }
    chain.writeU8(0, 1);
    this.#enabled = true;
    this.#lastPingMs = this.#nowMs();
    if (this.#cancelTick === undefined) this.#tickLater();
    return chain.writableBytes;
  }

  #watch(): void {
    this.#lastPingMs = this.#nowMs();
    this.#tickLater();
  }

  #tickLater(): void {
    this.#cancelTick = this.activation.env.timer(TICK_MS, () => this.#tick());
  }

  #tick(): void {
    this.#tickLater();
    const seconds = Math.floor((this.#nowMs() - this.#lastPingMs) / MS_PER_SECOND);
    if (seconds <= LIMIT_SECONDS) return;
    const { id, env } = this.activation;
    const text = `Watchdog triggered: ${seconds} seconds since last ping`;
    env.post({ kind: "log", level: "error", key: `watchdog:${id}`, text });
    env.post({ kind: "reset" });
  }
}

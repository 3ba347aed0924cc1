/**
 * The service loop of a queue whose requests need no waiting: takes them, answers them, shows the answers, in turns.
 *
 * L3, I/O Worker. Nothing is allocated per request. After a turn other devices of the Worker get theirs.
 */
import type { Activation } from "../device.ts";
import { DescriptorChain } from "./chain.ts";
import type { SplitQueue } from "./split.ts";

/** What `serve` returns for a request that is answered later, by `complete`. */
export const LATER = -1;

/** Requests in one turn. */
const TURN_REQUESTS = 64;

/** Answers one request: returns the bytes written into the chain, or `LATER`. Must not keep the chain. */
export type Serve = (chain: DescriptorChain) => number;

/** See the module. */
export class QueueServer {
  readonly queue: SplitQueue;
  readonly #chain = new DescriptorChain();
  readonly #turn = () => {
    this.#cancelTurn = undefined;
    this.kick();
  };
  #cancelTurn: (() => void) | undefined;

  constructor(
    private readonly activation: Pick<Activation, "queues" | "env" | "interruptQueue" | "fail">,
    private readonly index: number,
    private readonly serve: Serve,
    private readonly turnRequests = TURN_REQUESTS,
  ) {
    this.queue = activation.queues[index];
  }

  /** Requests may be waiting. */
  kick(): void {
    if (this.#cancelTurn !== undefined) return;
    const { queue } = this;
    let left = this.turnRequests;
    queue.disableNotifications();
    do {
      for (; left > 0 && queue.pop(this.#chain); left--) {
        const written = this.serve(this.#chain);
        if (written !== LATER) queue.push(this.#chain.head, written);
      }
      this.show();
    } while (left > 0 && queue.enableNotifications());
    if (queue.fault !== undefined) this.activation.fail(queue.fault);
    else if (left === 0) this.#cancelTurn = this.activation.env.timer(0, this.#turn);
  }

  /** Answers a request `serve` left for later. */
  complete(head: number, writtenBytes: number): void {
    this.queue.push(head, writtenBytes);
    this.show();
  }

  /** Shows what was answered to the driver. */
  show(): void {
    if (this.queue.publish()) this.activation.interruptQueue(this.index);
  }

  /** Stops a turn that is due; the requests stay in the queue until the next kick. */
  stop(): void {
    this.#cancelTurn?.();
    this.#cancelTurn = undefined;
  }
}

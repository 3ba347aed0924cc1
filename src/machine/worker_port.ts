/**
 * Talking to a Worker that spends its life in a blocking system call.
 *
 * L5, main isolate (and the message types for both sides). A Worker inside KVM_RUN or epoll_wait receives no messages, so
 * each one comes with a counter in shared memory and a kick: the Worker's loop sees `posted ≠ handled`, returns to its
 * event loop, handles the message, and goes back when it has handled all that were posted.
 */
import { defineBlock } from "@vmm/sync/shared_block.ts";

/** Counters of a Worker's mailbox. */
export const MailboxBlock = defineBlock("mailbox", { posted: "u32", handled: "u32" });

/** A request to a Worker. `method` is a key of the Worker's method table; `payload` is cloned. */
export interface WorkerCall {
  readonly seq: number;
  readonly method: string;
  readonly payload: unknown;
}

/** What a Worker sends: an answer to a call, or an event of its own. */
export type WorkerMessage =
  | { readonly seq: number; readonly value: unknown }
  | { readonly seq: number; readonly errors: readonly string[] }
  | { readonly event: unknown };

/** An error that happened in a Worker while it carried out a call. */
export class WorkerError extends Error {
  override readonly name = "WorkerError";

  /** @param messages of the error and its causes, outermost first */
  static of([message, ...causes]: readonly string[]): WorkerError {
    return new WorkerError(message, causes.length > 0 ? { cause: WorkerError.of(causes) } : undefined);
  }
}

/** Main's end of a Worker. */
export class WorkerPort {
  readonly mailbox = MailboxBlock.create();
  /** Called for every event the Worker sends. */
  onEvent: (event: unknown) => void = () => {};
  /** Called when the Worker dies of an error nobody caught: a bug of ours. */
  onDeath: (message: string) => void = (message) => {
    throw new Error(message);
  };
  /** An error nobody caught has ended the Worker. */
  isDead = false;
  #next = 0;
  #pending = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();

  /**
   * @param worker just created
   * @param kick makes the Worker leave its blocking call
   */
  constructor(readonly worker: Worker, private kick: () => void = () => {}) {
    worker.onmessage = (message: MessageEvent<WorkerMessage>) => this.#receive(message.data);
    worker.onerror = (error) => {
      error.preventDefault();
      this.isDead = true;
      const text = `Worker failed: ${error.message}`;
      for (const { reject } of this.#pending.values()) reject(new WorkerError(text));
      this.#pending.clear();
      this.onDeath(text);
    };
  }

  /** How to get the Worker out of its blocking call, once it has one. */
  setKick(kick: () => void): void {
    this.kick = kick;
  }

  /** Carries out `method` in the Worker. @throws WorkerError with the Worker's messages */
  call<T = void>(method: string, payload?: unknown): Promise<T> {
    const seq = this.#next++;
    const answer = new Promise<unknown>((resolve, reject) => this.#pending.set(seq, { resolve, reject }));
    Atomics.add(this.mailbox.words, MailboxBlock.index.posted, 1);
    this.worker.postMessage({ seq, method, payload } satisfies WorkerCall);
    this.kick();
    return answer as Promise<T>;
  }

  #receive(message: WorkerMessage): void {
    if ("event" in message) return this.onEvent(message.event);
    const pending = this.#pending.get(message.seq);
    this.#pending.delete(message.seq);
    if ("errors" in message) pending?.reject(WorkerError.of(message.errors));
    else pending?.resolve(message.value);
  }
}

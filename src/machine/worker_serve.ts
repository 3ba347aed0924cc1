/**
 * A Worker's end of its mailbox: methods called by main, and the blocking loop in between.
 *
 * L5, vCPU and I/O Workers. See `worker_port.ts`.
 */
import { messagesOf } from "@vmm/errors/vmm_error.ts";
import { MailboxBlock, type WorkerCall, type WorkerMessage } from "./worker_port.ts";

/** Name of a thread that belongs to no VM of a client. */
export const IDLE_THREAD_NAME = "idle";

/** The scope of a dedicated Worker, as far as used here. */
interface Scope {
  onmessage: ((message: MessageEvent) => void) | null;
  postMessage(message: WorkerMessage): void;
}

const scope = globalThis as unknown as Scope;

/** Sends an event to main. */
export function postEvent(event: unknown): void {
  scope.postMessage({ event });
}

/** A Worker's life: methods, and a loop entered whenever the mailbox is empty. */
export class WorkerService {
  #mailbox = MailboxBlock.create();
  #words = this.#mailbox.words;

  /**
   * @param methods called by name; may be asynchronous; an error goes to the caller as the texts of its chain
   * @param loop blocks until `hasMail()`; called when no message is waiting
   */
  constructor(
    private readonly methods: Record<string, (payload: never) => unknown>,
    private readonly loop: () => void,
  ) {}

  /** True when main posted something that was not handled yet: the loop must return. Allocates nothing. */
  hasMail(): boolean {
    return Atomics.load(this.#words, MailboxBlock.index.posted) !== this.#words[MailboxBlock.index.handled];
  }

  /** Starts serving. The first message must be `attach` with the mailbox buffer. */
  serve(): void {
    scope.onmessage = (message: MessageEvent) => void this.#handle(message.data as WorkerCall);
  }

  async #handle(call: WorkerCall): Promise<void> {
    try {
      if (call.method === "attach") {
        this.#mailbox = MailboxBlock.attach(call.payload as SharedArrayBuffer);
        this.#words = this.#mailbox.words;
      }
      const method = this.methods[call.method];
      if (method === undefined && call.method !== "attach") {
        throw new Error(`Unknown method "${call.method}"`);
      }
      scope.postMessage({ seq: call.seq, value: await method?.(call.payload as never) });
    } catch (error) {
      scope.postMessage({ seq: call.seq, errors: messagesOf(error) });
    }
    Atomics.add(this.#words, MailboxBlock.index.handled, 1);
    if (!this.hasMail()) this.loop();
  }
}

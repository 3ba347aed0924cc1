/**
 * Events as an async iterator, from the moment it is made.
 *
 * L6, main isolate.
 */
import type { VmmEvent } from "@schemas/api/event.ts";
import { MAX_BEHIND } from "@vmm/api/event_feed.ts";
import { EventStreamError } from "@vmm/client/event_decoder.ts";
import type { EventStream } from "@vmm/log/events.ts";

type Next = IteratorResult<VmmEvent, void>;
const OVER: Next = { done: true, value: undefined };

/** One reader's events. */
export class EventFeed implements AsyncGenerator<VmmEvent, void> {
  readonly #waiting: VmmEvent[] = [];
  readonly #readers: PromiseWithResolvers<Next>[] = [];
  #over = false;
  #error: Error | undefined;
  #leave = () => {};

  /** @param onEnd called once, when nothing more will be taken */
  constructor(private readonly onEnd: () => void) {}

  /** Takes the events of `stream` until it is ended or `signal` aborts. */
  follow(stream: EventStream, signal?: AbortSignal): void {
    const unsubscribe = stream.subscribe((event) => this.#take(event));
    const stop = () => void this.return();
    signal?.addEventListener("abort", stop, { once: true });
    this.#leave = () => {
      unsubscribe();
      signal?.removeEventListener("abort", stop);
    };
  }

  /** Nothing follows; what was taken can still be read. */
  end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#leave();
    for (const reader of this.#readers.splice(0)) reader.resolve(OVER);
    this.onEnd();
  }

  #take(event: VmmEvent): void {
    const reader = this.#readers.shift();
    if (reader !== undefined) return reader.resolve({ done: false, value: event });
    if (this.#waiting.push(event) <= MAX_BEHIND) return;
    this.#waiting.length = 0;
    this.#error = new EventStreamError(`The reader is more than ${MAX_BEHIND} events behind`);
    this.end();
  }

  async next(): Promise<Next> {
    const value = this.#waiting.shift();
    if (value !== undefined) return { done: false, value };
    if (this.#error !== undefined) {
      const error = this.#error;
      this.#error = undefined;
      throw error;
    }
    if (this.#over) return OVER;
    const reader = Promise.withResolvers<Next>();
    this.#readers.push(reader);
    return await reader.promise;
  }

  async return(): Promise<Next> {
    this.#waiting.length = 0;
    this.end();
    return OVER;
  }

  async throw(error: unknown): Promise<Next> {
    await this.return();
    throw error;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }
}

/**
 * The event stream: what happens to the VMM and its VM, told to whoever subscribed.
 *
 * L1, main isolate, no I/O: sinks (file, server-sent events, D-Bus) subscribe. Source: spec/cli.md §5.
 */
import type { EventName, EventSource, VmmEvent } from "@schemas/api/event.ts";
import { log } from "./logger.ts";

/** Takes one event; must not block and must not throw. */
export type EventSubscriber = (event: VmmEvent) => void;

/** Emits events in order to all subscribers. */
export class EventStream {
  /** With what each wants to be called for when nothing more will come. */
  readonly #subscribers = new Map<EventSubscriber, () => void>();
  readonly #startMs: number;

  /** @param nowMs monotonic clock in milliseconds; timestamps count from its value now */
  constructor(private readonly nowMs: () => number = () => performance.now()) {
    this.#startMs = nowMs();
  }

  /** Adds a subscriber, `onEnd` for when nothing more will come; returns the function that removes both. */
  subscribe(subscriber: EventSubscriber, onEnd: () => void = () => {}): () => void {
    this.#subscribers.set(subscriber, onEnd);
    return () => this.#subscribers.delete(subscriber);
  }

  /** Nothing more will be told to those who have subscribed. */
  end(): void {
    const all = [...this.#subscribers.values()];
    this.#subscribers.clear();
    for (const onEnd of all) onEnd();
  }

  /** Tells everybody. `properties` are texts only. */
  emit<S extends EventSource>(
    source: S,
    event: EventName<S>,
    properties: Readonly<Record<string, string>> | null = null,
  ): void {
    log.info(
      `Event: source = ${source} event = ${event} ${properties === null ? "" : JSON.stringify(properties)}`,
    );
    if (this.#subscribers.size === 0) return;
    const elapsedMs = this.nowMs() - this.#startMs;
    const secs = Math.floor(elapsedMs / 1e3);
    const timestamp = { secs, nanos: Math.min(Math.round((elapsedMs - secs * 1e3) * 1e6), 999_999_999) };
    const entry: VmmEvent = { timestamp, source, event, properties };
    for (const subscriber of this.#subscribers.keys()) subscriber(entry);
  }
}

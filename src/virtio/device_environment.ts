/**
 * The `IoEnvironment` a single device sees: its watches and timers can be silenced and forgotten together.
 *
 * L3, I/O Worker. While the device is paused no callback runs: descriptors are taken out of the poll set (level-triggered
 * ones would spin), timers that come due wait for `resume`.
 */
import type { AttendedQueue, IoEnvironment } from "./device.ts";

/** Runs a callback so that what it throws breaks its device only. */
export type Guard = (call: () => void) => void;

interface Timer {
  cancel: () => void;
  fire: () => void;
  due: boolean;
}

export class DeviceEnvironment implements IoEnvironment {
  readonly #events = new Map<number, number>();
  readonly #timers = new Set<Timer>();
  #paused = false;
  /** Counts `forgetAll`: what was registered before it is void. */
  #generation = 0;

  constructor(private readonly inner: IoEnvironment, private readonly guard: Guard) {}

  watch(fd: number, events: number, ready: (events: number) => void): void {
    let seen = 0;
    const call = () => ready(seen); // made once: no allocation per event
    this.#events.set(fd, events);
    this.inner.watch(fd, this.#paused ? 0 : events, (now) => {
      if (this.#paused) return;
      seen = now;
      this.guard(call);
    });
  }

  rewatch(fd: number, events: number): void {
    if (!this.#events.has(fd)) return;
    this.#events.set(fd, events);
    if (!this.#paused) this.inner.rewatch(fd, events);
  }

  unwatch(fd: number): void {
    if (this.#events.delete(fd)) this.inner.unwatch(fd);
  }

  timer(delayMs: number, fire: () => void): () => void {
    const timer: Timer = { cancel: () => {}, fire, due: false };
    this.#timers.add(timer);
    timer.cancel = this.inner.timer(delayMs, () => this.#due(timer));
    return () => {
      if (this.#timers.delete(timer)) timer.cancel();
    };
  }

  attend(queue: AttendedQueue): () => boolean {
    const generation = this.#generation;
    let result = false;
    const look = () => void (result = queue.look()); // made once: no allocation per look
    const rest = () => void (result = queue.rest());
    const run = (call: () => void) => {
      if (this.#paused || generation !== this.#generation) return false;
      result = false;
      this.guard(call);
      return result;
    };
    const begin = this.inner.attend?.({ look: () => run(look), rest: () => run(rest) });
    return () => begin !== undefined && !this.#paused && generation === this.#generation && begin();
  }

  post(event: { kind: string } & Record<string, unknown>): void {
    this.inner.post(event);
  }

  /** Silences everything. */
  pause(): void {
    this.#paused = true;
    for (const fd of this.#events.keys()) this.inner.rewatch(fd, 0);
  }

  /** Lets descriptors report again and fires the timers that came due meanwhile. */
  resume(): void {
    this.#paused = false;
    for (const [fd, events] of this.#events) this.inner.rewatch(fd, events);
    for (const timer of [...this.#timers]) if (timer.due) this.#due(timer);
  }

  /** Drops every watch, timer and attended queue. */
  forgetAll(): void {
    this.#generation++;
    for (const fd of this.#events.keys()) this.inner.unwatch(fd);
    this.#events.clear();
    for (const timer of this.#timers) timer.cancel();
    this.#timers.clear();
  }

  #due(timer: Timer): void {
    if (this.#paused) {
      timer.due = true;
      return;
    }
    if (this.#timers.delete(timer)) this.guard(timer.fire);
  }
}

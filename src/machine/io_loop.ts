/**
 * The I/O Worker's event loop: descriptors and timers over one epoll set.
 *
 * L5, I/O Worker. Blocks the thread; callbacks run one at a time and may add and remove watches freely.
 */
import { EPOLL, Epoll } from "@ffi/libc/epoll.ts";
import { drainEvent } from "@ffi/libc/io.ts";

interface Watch {
  readonly fd: number;
  readonly token: number;
  events: number;
  readonly ready: (events: number) => void;
}

interface Timer {
  readonly dueMs: number;
  readonly fire: () => void;
}

/** Longest single wait; timers are checked at least this often. */
const FOREVER = -1;

/** epoll with callbacks. */
export class IoLoop {
  readonly #epoll = new Epoll(64);
  readonly #byToken = new Map<number, Watch>();
  readonly #byFd = new Map<number, Watch>();
  readonly #timers = new Set<Timer>();
  #nextToken = 1;

  /** @param report told of a callback that threw: a bug of ours, the loop goes on */
  constructor(private readonly report: (error: Error) => void) {}

  /** Calls `ready` whenever `fd` has one of `events`; an fd has one watch at a time. @throws OsError */
  watch(fd: number, events: number, ready: (events: number) => void): void {
    this.unwatch(fd);
    const watch = { fd, token: this.#nextToken++, events, ready };
    this.#byFd.set(fd, watch);
    this.#byToken.set(watch.token, watch);
    if (events !== 0) this.#epoll.add(fd, events, watch.token);
  }

  /** Calls `ready` after an eventfd was raised, with its counter already back to zero. @throws OsError */
  watchEvent(fd: number, ready: () => void): void {
    this.watch(fd, EPOLL.IN, () => {
      if (drainEvent(fd)) ready();
    });
  }

  /** Changes the awaited events; 0 takes the descriptor out of the set, so that a hang-up is not reported either. */
  rewatch(fd: number, events: number): void {
    const watch = this.#byFd.get(fd);
    if (watch === undefined || watch.events === events) return;
    if (events === 0) this.#epoll.remove(fd);
    else if (watch.events === 0) this.#epoll.add(fd, events, watch.token);
    else this.#epoll.modify(fd, events, watch.token);
    watch.events = events;
  }

  /** Forgets a descriptor; before closing it. */
  unwatch(fd: number): void {
    const watch = this.#byFd.get(fd);
    if (watch === undefined) return;
    if (watch.events !== 0) this.#epoll.remove(fd);
    this.#byFd.delete(fd);
    this.#byToken.delete(watch.token);
  }

  /** Calls `fire` once after `delayMs`; the returned function cancels. */
  timer(delayMs: number, fire: () => void): () => void {
    const timer: Timer = { dueMs: performance.now() + delayMs, fire };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Serves until `done()`; looks at it after every wait. */
  run(done: () => boolean): void {
    while (!done()) {
      const count = this.#epoll.wait(this.#timeoutMs());
      for (let i = 0; i < count; i++) {
        // A callback may have removed a later entry of this batch: tokens are never reused, so it is simply not found.
        const watch = this.#byToken.get(this.#epoll.token(i));
        if (watch === undefined) continue;
        try {
          watch.ready(this.#epoll.events(i));
        } catch (error) {
          this.report(error as Error);
        }
      }
      if (this.#timers.size > 0) this.#fireTimers();
    }
  }

  /** Opens the symbols of the wait before the first VM needs them; what is ready stays ready. */
  warm(): void {
    this.#epoll.wait(0);
  }

  /** Closes the set; `run` may not be called any more. */
  close(): void {
    this.#epoll.close();
  }

  #timeoutMs(): number {
    if (this.#timers.size === 0) return FOREVER;
    let nearest = Infinity;
    for (const timer of this.#timers) nearest = Math.min(nearest, timer.dueMs);
    return Math.max(0, Math.ceil(nearest - performance.now()));
  }

  #fireTimers(): void {
    const now = performance.now();
    for (const timer of [...this.#timers]) {
      if (timer.dueMs > now || !this.#timers.delete(timer)) continue;
      try {
        timer.fire();
      } catch (error) {
        this.report(error as Error);
      }
    }
  }
}

/**
 * The I/O Worker's event loop: descriptors and timers over one epoll set.
 *
 * L5, I/O Worker. Blocks the thread; callbacks run one at a time and may add and remove watches freely. Queues that have
 * just been busy are looked at for a moment before the thread blocks, where that pays (see `patience.ts`).
 */
import { monotonicNs } from "@ffi/libc/clock.ts";
import { EPOLL, Epoll } from "@ffi/libc/epoll.ts";
import type { AttendedQueue } from "@vmm/virtio/device.ts";
import { HostLoad } from "./host_load.ts";
import { BUSY_LOOK_US, Patience } from "./patience.ts";

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

/** A queue somebody asked to look at. */
interface Attended {
  readonly queue: AttendedQueue;
  isLookedAt: boolean;
}

/** Longest single wait; timers are checked at least this often. */
const FOREVER = -1;
/** While queues are looked at, descriptors have their turn this often, microseconds. */
const LOOK_SLICE_US = 20;
/** Looks between two looks at the clock. */
const LOOKS_PER_TIME = 16;
const NS_PER_US = 1e3;
const NOT_SLEPT = -1;

/** What the loop knows of its host; tests have their own. */
export interface LoopHost {
  /** Microseconds of a clock that never goes back. */
  nowUs(): number;
  /** True if this thread takes its CPU from nobody. */
  hasFreeCpu(): boolean;
  readonly cpus: number;
}

function realHost(): LoopHost {
  return {
    nowUs: () => monotonicNs() / NS_PER_US,
    hasFreeCpu: new HostLoad().hasFreeCpu,
    cpus: navigator.hardwareConcurrency,
  };
}

/** epoll with callbacks. */
export class IoLoop {
  readonly #epoll = new Epoll(64);
  readonly #byToken = new Map<number, Watch>();
  readonly #byFd = new Map<number, Watch>();
  readonly #timers = new Set<Timer>();
  /** The first `#attendedCount` are being looked at. */
  readonly #attended: Attended[] = [];
  #attendedCount = 0;
  readonly #patience: Patience;
  /** When looking last found something, and the length of the last sleep if no queue has accounted for it; microseconds. */
  #foundUs = 0;
  /** How long nothing may be found. */
  #lookUs = 0;
  #sleptUs = NOT_SLEPT;
  #nextToken = 1;

  /** @param report told of a callback that threw: a bug of ours, the loop goes on */
  constructor(private readonly report: (error: Error) => void, private readonly host: LoopHost = realHost()) {
    this.#patience = new Patience(host.hasFreeCpu, host.cpus > 1 ? BUSY_LOOK_US : 0);
  }

  /** Calls `ready` whenever `fd` has one of `events`; an fd has one watch at a time. @throws OsError */
  watch(fd: number, events: number, ready: (events: number) => void): void {
    this.unwatch(fd);
    const watch = { fd, token: this.#nextToken++, events, ready };
    this.#byFd.set(fd, watch);
    this.#byToken.set(watch.token, watch);
    if (events !== 0) this.#epoll.add(fd, events, watch.token);
  }

  /** Calls `ready` each time an eventfd is raised. Its counter is left alone: nobody has to read it. @throws OsError */
  watchEvent(fd: number, ready: () => void): void {
    this.watch(fd, EPOLL.IN | EPOLL.ET, ready);
  }

  /** See `IoEnvironment.attend`. */
  attend(queue: AttendedQueue): () => boolean {
    const attended: Attended = { queue, isLookedAt: false };
    return () => this.#begin(attended);
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
      const count = this.#wait();
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
      if (this.#attendedCount > 0) this.#look();
    }
    this.#rest();
  }

  /** Gives the set back; the loop is not entered again. */
  close(): void {
    this.#epoll.close();
  }

  /** Forgets all descriptors, timers and queues. */
  clear(): void {
    for (const fd of [...this.#byFd.keys()]) this.unwatch(fd);
    this.#timers.clear();
    this.#attendedCount = 0;
    this.#attended.length = 0;
  }

  #wait(): number {
    if (this.#attendedCount > 0) return this.#epoll.wait(0);
    const beganUs = this.host.nowUs();
    const count = this.#epoll.wait(this.#timeoutMs());
    this.#sleptUs = this.host.nowUs() - beganUs;
    return count;
  }

  /** A queue has run empty. True: it will be looked at. */
  #begin(attended: Attended): boolean {
    if (this.#sleptUs !== NOT_SLEPT) this.#patience.slept(this.#sleptUs);
    this.#sleptUs = NOT_SLEPT;
    if (attended.isLookedAt) return true;
    const nowUs = this.host.nowUs();
    const lookUs = this.#patience.lookUs(nowUs);
    if (lookUs === 0) return false;
    this.#lookUs = lookUs;
    attended.isLookedAt = true;
    this.#attended[this.#attendedCount++] = attended;
    this.#foundUs = nowUs;
    return true;
  }

  /** Looks at queues until descriptors should have a turn, or for the last time. */
  #look(): void {
    const beganUs = this.host.nowUs();
    for (let looks = 1;; looks++) {
      let found = false;
      for (let i = 0; i < this.#attendedCount; i++) {
        if (this.#attended[i].queue.look()) found = true;
      }
      if (found) this.#patience.found();
      else if (looks % LOOKS_PER_TIME !== 0) continue;
      const nowUs = this.host.nowUs();
      if (found) this.#foundUs = nowUs;
      if (nowUs - this.#foundUs >= this.#lookUs) {
        this.#patience.missed();
        return this.#rest();
      }
      if (nowUs - beganUs >= LOOK_SLICE_US) return;
    }
  }

  /** Nothing is looked at any more; what came at the last moment is served. */
  #rest(): void {
    const count = this.#attendedCount;
    this.#attendedCount = 0;
    for (let i = 0; i < count; i++) this.#attended[i].isLookedAt = false;
    for (let i = 0; i < count; i++) {
      const { queue } = this.#attended[i];
      if (queue.rest()) queue.look();
    }
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

/**
 * Runs a script of requests: on the main isolate without blocking, in an I/O Worker by events, or at once.
 *
 * L4. The same script serves all three, so that negotiation is written once.
 */
import { EPOLL, Epoll } from "@ffi/libc/epoll.ts";
import { waitReadable } from "@ffi/libc/poll.ts";
import {
  BackendFault,
  type Exchange,
  type Reply,
  type Script,
  type VhostUserConnection,
} from "./connection.ts";
import { requestName } from "./protocol.ts";

/** The state of a script between two steps. */
class Steps<T> {
  #current: Exchange | undefined;
  #result: { value: T } | undefined;

  constructor(private readonly connection: VhostUserConnection, private readonly script: Script<T>) {}

  /** The result, once there is one. */
  get result(): { value: T } | undefined {
    return this.#result;
  }

  /** The request that is being answered. */
  get name(): string {
    return this.#current === undefined ? "nothing" : requestName(this.#current.request);
  }

  start(): void {
    this.#go(this.script.next());
  }

  /** Takes what arrived; false when the answer is still missing. @throws BackendFault */
  advance(): boolean {
    const reply = this.connection.receive();
    if (reply === undefined) return false;
    this.#go(this.script.next(reply));
    return true;
  }

  #go(step: IteratorResult<Exchange, T>): void {
    let now = step;
    while (!now.done) {
      this.#current = now.value;
      const reply: Reply | undefined = this.connection.send(now.value);
      if (reply === undefined) return;
      now = this.script.next(reply);
    }
    this.#result = { value: now.value };
  }

  timeout(timeoutMs: number): BackendFault {
    return new BackendFault(`No answer to ${this.name} within ${timeoutMs / 1000} s`);
  }
}

/** Runs a script blocking the thread, for at most `timeoutMs` in all. @throws BackendFault */
export function runNow<T>(connection: VhostUserConnection, script: Script<T>, timeoutMs: number): T {
  const steps = new Steps(connection, script);
  steps.start();
  return finish(connection, steps, timeoutMs);
}

function finish<T>(connection: VhostUserConnection, steps: Steps<T>, timeoutMs: number): T {
  const end = performance.now() + timeoutMs;
  while (steps.result === undefined) {
    if (!waitReadable(connection.fd, end - performance.now())) throw steps.timeout(timeoutMs);
    steps.advance();
  }
  return steps.result.value;
}

/** Runs a script on the main isolate; each answer may take `timeoutMs`. @throws BackendFault */
export async function runAsync<T>(
  connection: VhostUserConnection,
  script: Script<T>,
  timeoutMs: number,
): Promise<T> {
  const epoll = new Epoll(1);
  try {
    epoll.add(connection.fd, EPOLL.IN, 0);
    const steps = new Steps(connection, script);
    steps.start();
    let end = performance.now() + timeoutMs;
    while (steps.result === undefined) {
      const left = end - performance.now();
      if (left <= 0) throw steps.timeout(timeoutMs);
      await epoll.waitPooled(Math.ceil(Math.min(left, SLICE_MS)));
      if (steps.advance()) end = performance.now() + timeoutMs;
    }
    return steps.result.value;
  } finally {
    epoll.close();
  }
}

/** Longest single wait on a pool thread: a process that ends does not wait longer. */
const SLICE_MS = 200;

/** What an event-driven script needs of its Worker. */
export type TimerSource = (delayMs: number, fire: () => void) => () => void;

/** A script that goes on whenever its connection is readable. */
export class ScriptRunner<T> {
  readonly #steps: Steps<T>;
  #cancelTimer: (() => void) | undefined;

  /** @param failed called once, from a timer, when an answer takes longer than `timeoutMs` */
  constructor(
    private readonly connection: VhostUserConnection,
    script: Script<T>,
    private readonly timer: TimerSource,
    private readonly timeoutMs: number,
    private readonly failed: (fault: BackendFault) => void,
  ) {
    this.#steps = new Steps(connection, script);
  }

  /** Sends the first request. The result, if nothing has to be waited for. @throws BackendFault */
  start(): { value: T } | undefined {
    this.#steps.start();
    return this.#arm();
  }

  /** The connection is readable. The result, once the script has ended. @throws BackendFault */
  readable(): { value: T } | undefined {
    this.#disarm();
    while (this.#steps.result === undefined && this.#steps.advance());
    return this.#arm();
  }

  /** Finishes the script blocking the thread. @throws BackendFault */
  finish(timeoutMs: number): T {
    this.#disarm();
    return finish(this.connection, this.#steps, timeoutMs);
  }

  /** Forgets the timer; the connection is not used by this script any more. */
  abandon(): void {
    this.#disarm();
  }

  #arm(): { value: T } | undefined {
    const { result } = this.#steps;
    if (result === undefined) {
      this.#cancelTimer = this.timer(this.timeoutMs, () => {
        this.#cancelTimer = undefined;
        this.failed(this.#steps.timeout(this.timeoutMs));
      });
    }
    return result;
  }

  #disarm(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }
}

/**
 * A VMM inside one's own program: the same control loop, without a process of its own.
 *
 * L6, main isolate. Requests go through the router as those of the REST API do, so checks, errors and answers are the same.
 * Several may live one after another or side by side; the host's KVM, idle Workers and the log are the process's.
 */
import { close, duplicate } from "@ffi/libc/fd.ts";
import { umask } from "@ffi/libc/thread.ts";
import type { VmmEvent } from "@schemas/api/event.ts";
import { abortable } from "@vmm/base/abortable.ts";
import { PassedDescriptors } from "@vmm/api/passed_descriptors.ts";
import type { Router } from "@vmm/api/router.ts";
import { type Dialect, VmmService } from "@vmm/api/serve_service.ts";
import { ApiError, messagesIn } from "@vmm/client/api_error.ts";
import { type RequestOptions, VmmOperations } from "@vmm/client/vmm_operations.ts";
import { log, type LogSettings } from "@vmm/log/logger.ts";
import { writeBody } from "@vmm/remote/body.ts";
import { EventFeed } from "./event_feed.ts";

const API_ROOT = "/api/v1/";
const NO_BODY = new Uint8Array();
/** Sockets are the user's alone. */
const SOCKET_UMASK = 0o077;

/** How to start a VMM. */
export interface VmmOptions {
  /** Path of a UNIX socket on which the REST API is offered too; absent: no socket. */
  readonly apiSocket?: string;
  /** How that socket speaks HTTP: `nephos` (default) with the extras, or `cloud-hypervisor` byte for byte as the original. */
  readonly dialect?: Dialect;
  /** Keep the VMM when the guest powers itself off; default false: the VMM ends with it. */
  readonly noShutdown?: boolean;
  /** Log of the whole process; default: warnings and errors on standard error. */
  readonly log?: LogSettings;
}

/** How a VMM ended. */
export interface VmmEnd {
  /** Why, when it was not a shutdown that somebody asked for. */
  readonly error?: unknown;
}

const DEFAULT_DIALECT: Dialect = "nephos";
const DIALECTS: readonly Dialect[] = [DEFAULT_DIALECT, "cloud-hypervisor"];

/** Descriptors of our own for the same files. @throws OsError when one is none */
function duplicateAll(fds: readonly number[]): number[] {
  const own: number[] = [];
  try {
    for (const fd of fds) own.push(duplicate(fd));
    return own;
  } catch (error) {
    for (const fd of own) close(fd);
    throw error;
  }
}

/** A VMM in this process. Made by `start`; `await using` shuts it down at the end of the scope. */
export class Vmm extends VmmOperations implements AsyncDisposable {
  /** VMMs that are not over. */
  static #alive = 0;

  /**
   * Settles when the VMM is over and everything it held is given back: after `shutdownVmm()`, `close()`, a guest that powered
   * off, or an error. Never rejects.
   */
  readonly ended: Promise<VmmEnd>;
  readonly #service: VmmService;
  readonly #router: Router;
  readonly #feeds = new Set<EventFeed>();
  /** Whether nothing will happen any more. */
  #over = false;

  private constructor(service: VmmService) {
    super();
    this.#service = service;
    this.#router = service.makeRouter("library");
    this.ended = this.#run();
  }

  /** Starts a VMM without a VM. @throws Error when the socket cannot be made, or the log file; TypeError for no dialect */
  static async start(options: VmmOptions = {}): Promise<Vmm> {
    const { dialect = DEFAULT_DIALECT } = options;
    if (!DIALECTS.includes(dialect)) {
      throw new TypeError(`"${dialect}" is no dialect: ${DIALECTS.join(", ")}`);
    }
    if (options.log !== undefined) log.configure(options.log);
    const service = new VmmService({ noShutdown: options.noShutdown ?? false, closeDescriptor: close });
    if (options.apiSocket !== undefined) {
      const before = umask(SOCKET_UMASK);
      try {
        service.listen({ kind: "path", path: options.apiSocket }, dialect);
      } finally {
        umask(before);
      }
    }
    return new Vmm(service);
  }

  async #run(): Promise<VmmEnd> {
    Vmm.#alive++;
    this.#service.events.emit("vmm", "starting");
    const { error } = await this.#service.loop.run();
    // Whatever the reason: the process goes on, and may want the same path again.
    await this.#service.close(true);
    this.#over = true;
    for (const feed of [...this.#feeds]) feed.end();
    log.tellOwed(true);
    if (--Vmm.#alive === 0) await (await import("@vmm/machine/worker_pool.ts")).endIdleWorkers();
    return error === undefined ? {} : { error };
  }

  /** As of `VmmClient`, without a socket. `fds` stay open here. */
  override async request(
    method: "GET" | "PUT",
    endpoint: string,
    body?: unknown,
    { fds = [], signal }: RequestOptions = {},
  ): Promise<string | undefined> {
    signal?.throwIfAborted();
    const bytes = body === undefined ? NO_BODY : new TextEncoder().encode(writeBody(body));
    const passed = fds.length === 0 ? undefined : new PassedDescriptors(duplicateAll(fds), close);
    const request = { method, path: API_ROOT + endpoint, body: bytes };
    const answer = await abortable(Promise.resolve(this.#router(request, passed)), signal);
    const text = answer.body ?? "";
    if (answer.status < 200 || answer.status > 299) {
      throw new ApiError(answer.status, endpoint, messagesIn(text), text);
    }
    return text || undefined;
  }

  /**
   * What happens in the VMM and its VM, from this call on, until `signal` aborts or the VMM ends. Leaving the loop unsubscribes.
   * @throws EventStreamError, in the loop, when it is more than 1,024 events behind
   */
  override events({ signal }: { readonly signal?: AbortSignal } = {}): AsyncGenerator<VmmEvent, void> {
    signal?.throwIfAborted();
    const feed: EventFeed = new EventFeed(() => this.#feeds.delete(feed));
    this.#feeds.add(feed);
    feed.follow(this.#service.events, signal);
    if (this.#over) feed.end();
    return feed;
  }

  /** Metrics in Prometheus' text form, as `/metrics` shows them. */
  metrics(): string {
    return this.#service.metrics();
  }

  /** Shuts the VM down without asking the guest, and the VMM after it. Waits for an operation that is under way. */
  async close(): Promise<VmmEnd> {
    this.#service.loop.requestExit("The embedding program closes the VMM");
    return await this.ended;
  }

  /** Closes it, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

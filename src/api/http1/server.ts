/**
 * The drop-in front door: accepts connections on a listening UNIX socket and tells them when they are ready.
 *
 * L6, main isolate: waits on a pool thread, works on main. Source: spec/rest-api.md §1.
 */
import { Errno, OsError } from "@ffi/abi/errno.ts";
import { EPOLL, Epoll } from "@ffi/libc/epoll.ts";
import { close, eventfd } from "@ffi/libc/fd.ts";
import { accept, localName, peerName, SocketMessage } from "@ffi/libc/socket.ts";
import type { RefusalReason } from "@vmm/log/counters.ts";
import { log } from "@vmm/log/logger.ts";
import type { FrontDoor } from "../front_door.ts";
import type { Router } from "../router.ts";
import { Connection, type ConnectionHost } from "./connection.ts";
import { type OwnConnection, OwnSocket } from "./own_connection.ts";
import { TOO_MANY_CONNECTIONS } from "./response_writer.ts";

/** Connections served at the same time. */
const MAX_CONNECTIONS = 10;
const LISTENER = 0;
const WAKE = 1;
const FIRST_CONNECTION = 2;
const TOKEN_LIMIT = 0xffff_ffff;
const RECEIVE_BYTES = 64 << 10;
/** How long main may wait for a client's next request, in microseconds. */
const NEXT_REQUEST_US = 150;
/** More than any answer takes that waits for nothing. */
const MICROTASKS_PER_ANSWER = 200;
/** How long other users of the event loop may be kept waiting. */
const DISPATCHES_PER_TURN = 8;
/** Pause after the host ran out of descriptors. */
const ACCEPT_PAUSE_MS = 100;
const CONNECTION_EVENTS = EPOLL.IN | EPOLL.OUT | EPOLL.RDHUP | EPOLL.ET;
/** How long answers that are being written may take when the server closes. */
const CLOSE_WAIT_MS = 1_000;
const CLOSE_STEP_MS = 1;

/** The front door. */
export class Http1Server implements FrontDoor {
  readonly #epoll = new Epoll();
  readonly #wake = eventfd();
  readonly #connections = new Map<number, Connection>();
  readonly #host: ConnectionHost;
  readonly #self: OwnSocket;
  #nextToken = FIRST_CONNECTION;
  /** Of our own among the connections. */
  #own = 0;
  /** Names of our own that are not accepted yet. */
  readonly #expected = new Set<string>();
  /** Since the last turn of the event loop. */
  #dispatches = 0;
  #closing = false;

  /**
   * @param listener a listening socket, non-blocking; stays the caller's until `close`
   * @param countRefusal told of what the router never sees
   */
  constructor(
    private readonly listener: number,
    router: Router,
    countRefusal: (reason: RefusalReason) => void = () => {},
  ) {
    this.#self = new OwnSocket(localName(listener), "");
    this.#host = {
      router,
      message: new SocketMessage(RECEIVE_BYTES),
      countRefusal,
      onClosed: ({ token, isOwn }) => {
        this.#connections.delete(token);
        if (isOwn) this.#own--;
      },
    };
    this.#epoll.add(listener, EPOLL.IN, LISTENER);
    this.#epoll.add(this.#wake, EPOLL.IN, WAKE);
  }

  /** Serves until `close`. */
  async run(): Promise<void> {
    await this.#serve();
    this.#epoll.close();
    close(this.#wake);
  }

  async #serve(): Promise<void> {
    while (!this.#closing) {
      let count = await this.#epoll.waitPooled(-1);
      while (count > 0 && !this.#closing) {
        this.#dispatchAll(count);
        await this.#settle();
        // A client that has its answer often sends the next request at once: catching it here saves two thread switches.
        count = this.#epoll.waitBriefly(NEXT_REQUEST_US);
      }
    }
  }

  /**
   * Lets requests be answered. Those that ask for no more than a look at the VMM are done in microtasks; a turn of the event
   * loop, which answers of Workers and timers need, costs as much as such a request and comes for the others, and now and then.
   */
  async #settle(): Promise<void> {
    for (let tick = 0; tick < MICROTASKS_PER_ANSWER; tick++) {
      if (!this.#answering()) break;
      await undefined;
    }
    if (++this.#dispatches < DISPATCHES_PER_TURN && !this.#answering()) return;
    this.#dispatches = 0;
    await new Promise<void>((resolve) => setImmediate(resolve));
  }

  #answering(): boolean {
    for (const connection of this.#connections.values()) if (connection.busy) return true;
    return false;
  }

  /** Accepts nothing any more, waits a moment for answers being given, then ends all connections. */
  async close(): Promise<void> {
    this.#epoll.remove(this.listener);
    const deadline = performance.now() + CLOSE_WAIT_MS;
    while (this.#answering() && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, CLOSE_STEP_MS));
    }
    this.#closing = true;
    for (const connection of [...this.#connections.values()]) connection.close();
    close(this.listener);
    // Loaded here: at start every symbol opened delays the first answer.
    const { signalEvent } = await import("@ffi/libc/io.ts");
    signalEvent(this.#wake);
  }

  #dispatchAll(count: number): void {
    let waiting = false;
    for (let i = 0; i < count; i++) {
      const token = this.#epoll.token(i);
      if (token === LISTENER) waiting = true;
      else this.#dispatch(token, this.#epoll.events(i));
    }
    // Last, so that connections that have just ended make room for new ones.
    if (waiting) this.#accept();
  }

  #dispatch(token: number, events: number): void {
    const connection = this.#connections.get(token);
    if (connection === undefined) return;
    if (events & EPOLL.OUT) connection.onWritable();
    if (events & ~EPOLL.OUT) connection.onReadable();
  }

  #accept(): void {
    for (;;) {
      const fd = accept(this.listener);
      if (fd >= 0) this.#take(fd);
      else if (fd === -Errno.EAGAIN) return;
      else if (fd !== -Errno.EINTR) return this.#pause(fd);
    }
  }

  /** Out of descriptors or memory: leaves waiting connections alone for a while instead of spinning on them. */
  #pause(error: number): void {
    const reason = new OsError(-error, "accept4", "the API socket");
    log.limited("WARN", "api-accept", `Cannot accept API connections: ${reason.message}`);
    this.#epoll.remove(this.listener);
    setTimeout(() => {
      if (!this.#closing) this.#epoll.add(this.listener, EPOLL.IN, LISTENER);
    }, ACCEPT_PAUSE_MS);
  }

  /** It takes no place a client could have. */
  connectToSelf(): OwnConnection {
    const connection = this.#self.connect();
    this.#expected.add(connection.name);
    return connection;
  }

  /** Whether a new connection is our own. */
  #isOwn(fd: number): boolean {
    return this.#expected.size > 0 && this.#expected.delete(peerName(fd));
  }

  #take(fd: number): void {
    const isOwn = this.#isOwn(fd);
    if (isOwn) {
      this.#own++;
    } else if (this.#connections.size - this.#own >= MAX_CONNECTIONS) {
      this.#host.countRefusal("too_many_connections");
      this.#host.message.send(fd, TOO_MANY_CONNECTIONS);
      close(fd);
      return;
    }
    while (this.#connections.has(this.#nextToken)) this.#advanceToken();
    const connection = new Connection(fd, this.#nextToken, this.#host, isOwn);
    this.#advanceToken();
    this.#connections.set(connection.token, connection);
    this.#epoll.add(fd, CONNECTION_EVENTS, connection.token);
    // Most clients have sent their request by now.
    connection.onReadable();
  }

  #advanceToken(): void {
    this.#nextToken = this.#nextToken === TOKEN_LIMIT ? FIRST_CONNECTION : this.#nextToken + 1;
  }
}

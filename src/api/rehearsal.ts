/**
 * The first requests of a program's life, made by itself while nobody waits.
 *
 * L6, main isolate, loaded after the first boot. Code is compiled in steps while it runs: of the first thousand requests every
 * fiftieth waits for that. What polls a VM shall not be the one to pay for it.
 */
import type { FrontDoor } from "./front_door.ts";
import type { OwnConnection } from "./http1/own_connection.ts";
import { API_ROOT } from "./routes.ts";

/** What clients ask again and again; both change nothing. */
const ENDPOINTS = ["vmm.ping", "vm.info"] as const;
/** Connections at the same time: with one the server would wait for the next request, and nobody could send it. */
const CONNECTIONS = 6;
/** Requests sent at once, one number per exchange of a connection: most clients wait for each answer, some do not. */
const AT_ONCE = [1, 1, 1, 1, 12];
const ROUNDS = 40;
/** Others get their turn. */
const TURN_MS = 1;
/** Answers that take longer are given up, and the rehearsal with them. */
const TURNS_PER_ANSWER = 200;
const RECEIVE_BYTES = 64 << 10;
/** Ends the headers of an answer, and stands in no JSON text. */
const HEADERS_END = Uint8Array.of(0x0d, 0x0a, 0x0d, 0x0a);

const turn = () => new Promise<void>((resolve) => setTimeout(resolve, TURN_MS));

/** Requests on one connection. */
class OwnClient {
  /** Requests without an answer yet. */
  waiting = 0;
  #matched = 0;

  constructor(private readonly connection: OwnConnection) {}

  /** Asks `count` times; false when the connection does not take it. */
  ask(endpoint: string, count: number): boolean {
    const target = `${this.connection.origin}${API_ROOT}${endpoint}`;
    this.waiting += count;
    return this.connection.send(`GET ${target} HTTP/1.1\r\nHost: localhost\r\n\r\n`.repeat(count));
  }

  /** Takes what has come; false when nothing more will. */
  receive(buffer: Uint8Array<ArrayBuffer>): boolean {
    for (;;) {
      const count = this.connection.receive(buffer);
      if (count === undefined) return false;
      if (count === 0) return true;
      for (let at = 0; at < count; at++) this.#take(buffer[at]);
    }
  }

  #take(byte: number): void {
    if (byte !== HEADERS_END[this.#matched]) this.#matched = byte === HEADERS_END[0] ? 1 : 0;
    else if (++this.#matched === HEADERS_END.length) {
      this.#matched = 0;
      this.waiting--;
    }
  }

  close(): void {
    this.connection.close();
  }
}

/** Has all clients ask at the same time and get their answers; false when that went wrong, or it is over. */
async function exchange(
  clients: readonly OwnClient[],
  endpoint: string,
  count: number,
  buffer: Uint8Array<ArrayBuffer>,
  isOver: () => boolean,
): Promise<boolean> {
  for (const client of clients) if (!client.ask(endpoint, count)) return false;
  for (let turns = 0; turns < TURNS_PER_ANSWER && !isOver(); turns++) {
    await turn();
    for (const client of clients) if (!client.receive(buffer)) return false;
    if (clients.every(({ waiting }) => waiting === 0)) return true;
  }
  return false;
}

/**
 * Sends `door` more than a thousand requests, in small portions.
 *
 * @param isOver whether to stop
 * @throws Error when the door takes no connection
 */
export async function rehearseRequests(door: FrontDoor, isOver: () => boolean): Promise<void> {
  const buffer = new Uint8Array(RECEIVE_BYTES);
  for (let round = 0; round < ROUNDS; round++) {
    const clients: OwnClient[] = [];
    try {
      for (let i = 0; i < CONNECTIONS; i++) {
        const connection = door.connectToSelf?.();
        if (connection === undefined) return;
        clients.push(new OwnClient(connection));
      }
      for (const [at, count] of AT_ONCE.entries()) {
        const endpoint = ENDPOINTS[(round + at) % ENDPOINTS.length];
        if (!await exchange(clients, endpoint, count, buffer, isOver)) return;
      }
    } finally {
      for (const client of clients) client.close();
    }
  }
}

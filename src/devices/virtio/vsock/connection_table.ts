/**
 * The connections of a socket device by their two ports, and the host ports given to programs.
 *
 * L4, I/O Worker. Looking one up allocates nothing: keys are signed, so that V8 holds every one of them without an object.
 */
import type { Connection } from "./connection.ts";
import type { ReceivedHeader } from "./packet.ts";

/** Host ports of programs lie between 2^30 and 2^31. */
const PROGRAM_PORT_BIT = 0x4000_0000;
const PROGRAM_PORT_MASK = 0x7fff_ffff;

/** See the module. */
export class ConnectionTable {
  readonly #byHostPort = new Map<number, Map<number, Connection>>();
  #size = 0;
  #lastPort = PROGRAM_PORT_BIT - 1;

  get size(): number {
    return this.#size;
  }

  /** The connection a packet of the guest belongs to. */
  of({ hostKey, guestKey }: ReceivedHeader): Connection | undefined {
    return this.#byHostPort.get(hostKey)?.get(guestKey);
  }

  /** Adds a connection whose ports nobody has. */
  add(connection: Connection): void {
    const hostKey = connection.hostPort | 0;
    let connections = this.#byHostPort.get(hostKey);
    if (connections === undefined) this.#byHostPort.set(hostKey, connections = new Map());
    connections.set(connection.guestPort | 0, connection);
    this.#size++;
  }

  delete(connection: Connection): void {
    const hostKey = connection.hostPort | 0;
    const guestKey = connection.guestPort | 0;
    const connections = this.#byHostPort.get(hostKey);
    if (connections?.get(guestKey) !== connection) return;
    connections.delete(guestKey);
    if (connections.size === 0) this.#byHostPort.delete(hostKey);
    this.#size--;
  }

  /** A host port for a program; the next one each time, so that a port is not soon used again. */
  freePort(): number {
    do this.#lastPort = ((this.#lastPort + 1) & PROGRAM_PORT_MASK) | PROGRAM_PORT_BIT; while (
      this.#byHostPort.has(this.#lastPort)
    );
    return this.#lastPort;
  }

  /** `[host port, guest port]` of each connection. */
  ports(): [number, number][] {
    return [...this].map(({ hostPort, guestPort }) => [hostPort, guestPort]);
  }

  *[Symbol.iterator](): Iterator<Connection> {
    for (const connections of this.#byHostPort.values()) yield* connections.values();
  }
}

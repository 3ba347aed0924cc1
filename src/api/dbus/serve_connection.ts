/**
 * A connection to a message bus: authentication, whole messages in and out.
 *
 * L6, main isolate. Source: D-Bus Specification 0.43, "Authentication Protocol", "Server Addresses".
 */
import {
  type BusHeader,
  decodeHeader,
  encodeMessage,
  FIXED_HEADER_BYTES,
  messageExtent,
  type OutgoingMessage,
} from "./message.ts";

/** A message that came in. `body` is undefined if it was too long to be kept. */
export interface IncomingMessage {
  readonly header: BusHeader;
  readonly body: Uint8Array | undefined;
  /** First byte of the message: its byte order. */
  readonly order: number;
}

const SYSTEM_BUS_ADDRESS = "unix:path=/var/run/dbus/system_bus_socket";
/** Longer headers mean that the stream is broken. */
const MAX_HEADER_BYTES = 1 << 16;
/** Longer bodies are read past. */
const MAX_BODY_BYTES = 8 << 20;
const READ_BYTES = 1 << 16;
const LF = 0x0a;

/** Address of the bus, as the environment or the convention gives it. */
export function busAddress(systemBus: boolean): string {
  const name = systemBus ? "DBUS_SYSTEM_BUS_ADDRESS" : "DBUS_SESSION_BUS_ADDRESS";
  const address = Deno.env.get(name);
  if (address !== undefined && address !== "") return address;
  if (systemBus) return SYSTEM_BUS_ADDRESS;
  const runtime = Deno.env.get("XDG_RUNTIME_DIR") ?? `/run/user/${Deno.uid()}`;
  return `unix:path=${runtime}/bus`;
}

/** How `Deno.connect` takes the first UNIX socket in a list of addresses: a path, or a NUL and an abstract name. @throws Error if there is none */
export function socketPathOf(addresses: string): string {
  for (const address of addresses.split(";")) {
    const [transport, pairs = ""] = address.split(":", 2);
    if (transport !== "unix") continue;
    for (const pair of pairs.split(",")) {
      const [key, value = ""] = pair.split("=", 2);
      if (key === "path") return decodeURIComponent(value);
      if (key === "abstract") return `\0${decodeURIComponent(value)}`;
    }
  }
  throw new Error(
    `Cannot use the bus address "${addresses}": only unix:path=… and unix:abstract=… are supported`,
  );
}

async function connectTo(addresses: string): Promise<Deno.UnixConn> {
  const path = socketPathOf(addresses);
  try {
    return await Deno.connect({ transport: "unix", path });
  } catch (cause) {
    throw new Error(`Failed to connect to address \`${addresses}\`: ${(cause as Error).message}`, { cause });
  }
}

const hexOf = (text: string) => Array.from(text, (digit) => digit.charCodeAt(0).toString(16)).join("");

/** One connection. */
export class BusConnection {
  #serial = 0;
  #buffer: Uint8Array = new Uint8Array();
  #sending: Promise<unknown> = Promise.resolve();

  private constructor(private readonly stream: Deno.UnixConn) {}

  /** Connects and authenticates as the user we run as. @throws Error when the bus refuses */
  static async open(addresses: string): Promise<BusConnection> {
    const connection = new BusConnection(await connectTo(addresses));
    await connection.#write(new TextEncoder().encode(`\0AUTH EXTERNAL ${hexOf(String(Deno.uid()))}\r\n`));
    const answer = await connection.#line();
    if (!answer.startsWith("OK ")) throw new Error(`The bus refused to let us in: ${answer}`);
    await connection.#write(new TextEncoder().encode("BEGIN\r\n"));
    return connection;
  }

  /** Sends a message, after those sent before; returns its serial number. */
  async send(message: Omit<OutgoingMessage, "serial">): Promise<number> {
    const serial = this.#serial = (this.#serial % 0xffff_ffff) + 1;
    const bytes = encodeMessage({ ...message, serial });
    this.#sending = this.#sending.then(() => this.#write(bytes));
    await this.#sending;
    return serial;
  }

  /** The next message; undefined at the end of the stream. @throws Error when the stream is broken */
  async receive(): Promise<IncomingMessage | undefined> {
    if (!(await this.#fill(FIXED_HEADER_BYTES))) return undefined;
    const { headerBytes, bodyBytes } = messageExtent(this.#buffer);
    if (headerBytes > MAX_HEADER_BYTES) throw new Error("A D-Bus header is too long");
    if (!(await this.#fill(headerBytes))) return undefined;
    const order = this.#buffer[0];
    const header = decodeHeader(this.#take(headerBytes));
    if (bodyBytes > MAX_BODY_BYTES) {
      await this.#skip(bodyBytes);
      return { header, body: undefined, order };
    }
    if (!(await this.#fill(bodyBytes))) return undefined;
    return { header, body: this.#take(bodyBytes), order };
  }

  /** Waits until everything sent so far is out. Never throws. */
  async flush(): Promise<void> {
    await this.#sending.catch(() => {});
  }

  /** Ends the connection. */
  close(): void {
    try {
      this.stream.close();
    } catch {
      // Closed already.
    }
  }

  async #write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length;) done += await this.stream.write(bytes.subarray(done));
  }

  #take(count: number): Uint8Array {
    const taken = this.#buffer.slice(0, count);
    this.#buffer = this.#buffer.subarray(count);
    return taken;
  }

  async #skip(count: number): Promise<void> {
    for (let left = count; left > 0;) {
      if (this.#buffer.length === 0 && !(await this.#more())) return;
      left -= this.#take(Math.min(left, this.#buffer.length)).length;
    }
  }

  /** Reads until `count` bytes are there; false at the end of the stream. */
  async #fill(count: number): Promise<boolean> {
    while (this.#buffer.length < count) {
      if (!(await this.#more())) return false;
    }
    return true;
  }

  async #more(): Promise<boolean> {
    const chunk = new Uint8Array(READ_BYTES);
    const count = await this.stream.read(chunk);
    if (count === null) return false;
    const joined = new Uint8Array(this.#buffer.length + count);
    joined.set(this.#buffer);
    joined.set(chunk.subarray(0, count), this.#buffer.length);
    this.#buffer = joined;
    return true;
  }

  async #line(): Promise<string> {
    let end = this.#buffer.indexOf(LF);
    while (end < 0) {
      if (this.#buffer.length > MAX_HEADER_BYTES || !(await this.#more())) {
        throw new Error("The bus closed the connection while authenticating");
      }
      end = this.#buffer.indexOf(LF);
    }
    return new TextDecoder().decode(this.#take(end + 1)).trim();
  }
}

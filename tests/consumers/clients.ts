/**
 * The HTTP libraries of known clients, byte for byte: what they send, and how they take apart what they get.
 *
 * @module
 */

import { close } from "@ffi/libc/fd.ts";
import { connectUnix, SocketMessage } from "@ffi/libc/socket.ts";
import { Errno } from "@ffi/abi/errno.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { HttpConnection, type HttpResponse } from "@tests/framework/http_client.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** What a client makes of a response: the status, the body as JSON or text, and the header names it relies on. */
export interface Answer {
  status: number;
  body: string;
  // deno-lint-ignore no-explicit-any
  json(): any;
}

const answerOf = (status: number, body: string): Answer => ({ status, body, json: () => JSON.parse(body) });

/** For `Talk.read`: all that a client can see of an answer; maps come in any order, so JSON is compared as values. */
export function seen({ status, body }: Answer): unknown {
  return { status, body: /^[[{]/.test(body) ? JSON.parse(body) : body };
}

/** How a program in Go uses net/http. */
export interface GoOptions {
  /** False: `DisableKeepAlives`, a connection per request that the client closes. */
  keepAlive: boolean;
  userAgent?: string;
  /** Headers the program sets for requests with a body, and for those without. */
  withBody?: Record<string, string>;
  withoutBody?: Record<string, string>;
  /** The body's text. Default: `encoding/json` of a structure, members in the order given. */
  encode?: (body: unknown) => string;
}

/** Go's `encoding/json`: compact, with &, < and > escaped. */
export function goJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[&<>]/g,
    (character) => "\\u00" + character.charCodeAt(0).toString(16),
  );
}

/** As `goJson` of a map: members sorted by name, at all levels. */
export function goJsonOfMap(value: unknown): string {
  const sorted = (item: unknown): unknown => {
    if (Array.isArray(item)) return item.map(sorted);
    if (item === null || typeof item !== "object") return item;
    return Object.fromEntries(
      Object.entries(item).sort(([a], [b]) => a < b ? -1 : 1).map(([name, member]) => [name, sorted(member)]),
    );
  };
  return goJson(sorted(value));
}

/** Go's `http.Client` over a UNIX socket. */
export class GoClient implements Disposable {
  #kept: HttpConnection | undefined;

  constructor(readonly socket: string, readonly options: GoOptions) {}

  async do(method: "GET" | "PUT", endpoint: string, body?: unknown): Promise<Answer> {
    const { keepAlive, userAgent = "Go-http-client/1.1", withBody = {}, withoutBody = {}, encode = goJson } =
      this.options;
    const text = body === undefined ? "" : encode(body);
    const own = Object.entries(body === undefined ? withoutBody : withBody).sort();
    const lines = [
      `${method} /api/v1/${endpoint} HTTP/1.1`,
      "Host: localhost",
      `User-Agent: ${userAgent}`,
      ...(method === "PUT" ? [`Content-Length: ${encoder.encode(text).length}`] : []),
      ...own.map(([name, value]) => `${name}: ${value}`),
      "Accept-Encoding: gzip",
      ...(keepAlive ? [] : ["Connection: close"]),
    ];
    const connection = this.#kept ?? await HttpConnection.open(this.socket);
    try {
      await connection.send(encoder.encode(`${lines.join("\r\n")}\r\n\r\n${text}`));
      return goAnswer(await connection.receive());
    } finally {
      // The server never closes, so the client does.
      if (keepAlive) this.#kept = connection;
      else connection[Symbol.dispose]();
    }
  }

  get(endpoint: string): Promise<Answer> {
    return this.do("GET", endpoint);
  }

  put(endpoint: string, body?: unknown): Promise<Answer> {
    return this.do("PUT", endpoint, body);
  }

  [Symbol.dispose](): void {
    this.#kept?.[Symbol.dispose]();
  }
}

/** `http.ReadResponse`: needs a protocol, three digits and a space behind them; takes any case of header names. */
function goAnswer(response: HttpResponse): Answer {
  if (!/^HTTP\/1\.1 \d{3} /.test(response.statusLine)) {
    throw new Error(`malformed HTTP response "${response.statusLine}"`);
  }
  return answerOf(response.status, response.body);
}

/** One connected socket that sends descriptors. */
class RawSocket implements Disposable {
  readonly #fd: number;
  readonly #message: SocketMessage;

  constructor(path: string, maxReadBytes: number) {
    this.#fd = connectUnix(path);
    this.#message = new SocketMessage(maxReadBytes);
  }

  send(text: string, descriptors: readonly number[] = []): void {
    const bytes = encoder.encode(text);
    const sent = this.#message.send(this.#fd, bytes, descriptors);
    if (sent !== bytes.length) throw new Error(`Sent ${sent} of ${bytes.length} bytes`);
  }

  /** One `recv`, once there is something to read. */
  async receive(): Promise<string> {
    let count = 0;
    await eventually("an answer", () => (count = this.#message.receive(this.#fd)) !== -Errno.EAGAIN);
    if (count <= 0) throw new Error(`recv: ${count}`);
    return decoder.decode(this.#message.data.slice(0, count));
  }

  [Symbol.dispose](): void {
    close(this.#fd);
  }
}

/**
 * The original's own client library in Rust, as Kata's runtime-rs and Kuasar use it: one connection for everything.
 *
 * All between "HTTP/1.1 " and the first CR is the status, and nothing else may be there; the body's length is what
 * follows exactly "Content-Length: ".
 */
export class RustClient implements Disposable {
  readonly #socket: RawSocket;

  constructor(path: string) {
    this.#socket = new RawSocket(path, 8192);
  }

  async do(
    method: "GET" | "PUT",
    endpoint: string,
    body?: string,
    descriptors: readonly number[] = [],
  ): Promise<Answer> {
    const head = `${method} /api/v1/${endpoint} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n`;
    this.#socket.send(head, descriptors);
    if (body !== undefined) this.#socket.send(`Content-Length: ${encoder.encode(body).length}\r\n`);
    this.#socket.send("\r\n");
    if (body !== undefined) this.#socket.send(body);
    let text = "";
    for (;;) {
      text += await this.#socket.receive();
      const headEnd = text.indexOf("\r\n\r\n");
      if (headEnd < 0) continue;
      const status = text.slice(text.indexOf("HTTP/1.1 ") + 9, text.indexOf("\r")).trim();
      if (!/^\d+$/.test(status)) throw new Error(`StatusCodeParsing: "${status}"`);
      const at = text.indexOf("Content-Length: ");
      if (at < 0) return answerOf(Number(status), "");
      const length = Number(text.slice(at + 16, text.indexOf("\r", at)));
      const content = text.slice(headEnd + 4);
      if (encoder.encode(content).length >= length) return answerOf(Number(status), content);
    }
  }

  get(endpoint: string): Promise<Answer> {
    return this.do("GET", endpoint);
  }

  put(endpoint: string, body?: string): Promise<Answer> {
    return this.do("PUT", endpoint, body);
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
  }
}

/**
 * A request with descriptors from a program that writes the bytes itself: one `sendmsg`, then one `recv`.
 *
 * @param headers lines without their ends, between "Host" and "Content-Length"
 */
export class DescriptorSender implements Disposable {
  readonly #socket: RawSocket;

  /** @param maxReadBytes most that the one `recv` takes */
  constructor(path: string, maxReadBytes: number) {
    this.#socket = new RawSocket(path, maxReadBytes);
  }

  /** Returns what one `recv` gave. */
  async send(request: string, descriptors: readonly number[]): Promise<string> {
    this.#socket.send(request, descriptors);
    return await this.#socket.receive();
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
  }
}

/** The real curl; `args` come before the URL. @returns status and body */
export async function curl(socket: string, args: string[], endpoint: string): Promise<Answer> {
  const { code, stdout, stderr } = await new Deno.Command("curl", {
    args: [
      "-s",
      "-S",
      "--unix-socket",
      socket,
      "-w",
      "\n%{http_code}",
      ...args,
      `http://localhost/api/v1/${endpoint}`,
    ],
    stdin: "null",
  }).output();
  if (code !== 0) throw new Error(`curl ended with ${code}: ${decoder.decode(stderr)}`);
  const text = decoder.decode(stdout);
  const end = text.lastIndexOf("\n");
  return answerOf(Number(text.slice(end + 1)), text.slice(0, end));
}

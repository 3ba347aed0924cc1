/**
 * Reading one HTTP response as it arrives: the original's bare status line, and ordinary HTTP/1.
 *
 * L6, pure. Source: spec/rest-api.md §1.1, spec/cli.md §7; RFC 9112 §6, §7.1 for what ordinary servers may send.
 */

/** One response. */
export interface HttpResponse {
  readonly status: number;
  /** Undefined when none was announced, which is not the same as an empty one. */
  readonly body: string | undefined;
  /** The server closed the connection before the announced end. */
  readonly cutShort?: true;
}

/** A response that cannot be read; `message` and the `cause`'s are the texts of the original's client. */
export class ResponseError extends Error {
  /** Name of the class. */
  override readonly name = "ResponseError";
}

/** Longest head and longest body accepted: a server cannot make us grow without bound. */
const MAX_HEAD_BYTES = 64 << 10;
const MAX_BODY_BYTES = 256 << 20;

const decoder = new TextDecoder();

/** How the end of the body is told. */
type Framing =
  | { readonly kind: "length"; readonly bytes: number }
  | { readonly kind: "chunked" }
  | { readonly kind: "close" }
  | { readonly kind: "none" };

interface Head {
  readonly status: number;
  readonly framing: Framing;
  readonly bodyAt: number;
}

function digits(text: string, message: string): number {
  const isNumber = /^\+?[0-9]+$/.test(text);
  if (isNumber && Number.isSafeInteger(Number(text))) return Number(text);
  const why = text === ""
    ? "cannot parse integer from empty string"
    : isNumber
    ? "number too large to fit in target type"
    : "invalid digit found in string";
  throw new ResponseError(message, { cause: new Error(why) });
}

function parseHead(text: string, bodyAt: number): Head {
  const [statusLine, ...lines] = text.split("\r\n");
  const match = /^HTTP\/1\.[01](?: +([^ ]*).*)?$/.exec(statusLine);
  if (match === null) throw new ResponseError("HTTP output is missing protocol statement");
  const status = digits(match[1] ?? "", "Error parsing HTTP status code");
  const headers = new Map(lines.map((line): [string, string] => {
    const colon = line.indexOf(":");
    return [line.slice(0, Math.max(colon, 0)).trim().toLowerCase(), line.slice(colon + 1).trim()];
  }));
  return { status, framing: framingOf(status, headers), bodyAt };
}

function framingOf(status: number, headers: ReadonlyMap<string, string>): Framing {
  const length = headers.get("content-length");
  // 1xx and 204 have no body, whatever the headers say.
  if (status < 200 || status === 204) return { kind: "none" };
  if (headers.get("transfer-encoding")?.toLowerCase() === "chunked") return { kind: "chunked" };
  if (length !== undefined) {
    return { kind: "length", bytes: digits(length, "Error parsing HTTP Content-Length field") };
  }
  // A server that keeps the connection and announces nothing has nothing to send.
  return { kind: headers.get("connection")?.toLowerCase() === "close" ? "close" : "none" };
}

/** The chunks of `bytes` joined; undefined while the last one is not there. */
function joinChunks(bytes: Uint8Array): Uint8Array | undefined {
  const parts: Uint8Array[] = [];
  for (let at = 0;;) {
    const end = indexOfLineEnd(bytes, at);
    if (end < 0) return undefined;
    const size = Number.parseInt(decoder.decode(bytes.subarray(at, end)), 16);
    if (!Number.isSafeInteger(size) || size < 0) throw new ResponseError("Error parsing HTTP chunk size");
    if (size === 0) return concat(parts);
    if (end + 2 + size + 2 > bytes.length) return undefined;
    parts.push(bytes.subarray(end + 2, end + 2 + size));
    at = end + 2 + size + 2;
  }
}

function indexOfLineEnd(bytes: Uint8Array, from: number): number {
  for (let at = bytes.indexOf(13, from); at >= 0; at = bytes.indexOf(13, at + 1)) {
    if (bytes[at + 1] === 10) return at;
  }
  return -1;
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Collects the bytes of one response. */
export class ResponseReader {
  #bytes = new Uint8Array(4096);
  #length = 0;
  #head: Head | undefined;

  /** Takes what arrived; returns the response when it is complete. @throws ResponseError */
  push(chunk: Uint8Array): HttpResponse | undefined {
    this.#append(chunk);
    while (this.#findHead()) {
      const { status, framing, bodyAt } = this.#head!;
      const body = this.#body(framing, this.#bytes.subarray(bodyAt, this.#length));
      if (body === undefined) return undefined;
      // An interim response comes before the one meant. A server may also stop there, see `end()`.
      if (status >= 100 && status < 200 && this.#length > bodyAt) {
        this.#bytes.copyWithin(0, bodyAt, this.#length);
        this.#length -= bodyAt;
        this.#head = undefined;
        continue;
      }
      if (status < 200) return undefined;
      return { status, body: framing.kind === "none" ? undefined : decoder.decode(body) };
    }
    return undefined;
  }

  /** What there is when the server closes: a body cut short counts. @throws ResponseError when there is no response */
  end(): HttpResponse {
    if (!this.#findHead()) throw new ResponseError("HTTP output is missing protocol statement");
    const { status, framing, bodyAt } = this.#head!;
    if (framing.kind === "none") return { status, body: undefined };
    const body = decoder.decode(this.#bytes.subarray(bodyAt, this.#length));
    return framing.kind === "close" ? { status, body } : { status, body, cutShort: true };
  }

  #append(chunk: Uint8Array): void {
    const needed = this.#length + chunk.length;
    if (needed > MAX_BODY_BYTES) throw new ResponseError("HTTP response is too long");
    if (needed > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(needed, 2 * this.#bytes.length));
      larger.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = larger;
    }
    this.#bytes.set(chunk, this.#length);
    this.#length = needed;
  }

  #findHead(): boolean {
    if (this.#head !== undefined) return true;
    const seen = this.#bytes.subarray(0, Math.min(this.#length, MAX_HEAD_BYTES));
    for (let at = indexOfLineEnd(seen, 0); at >= 0; at = indexOfLineEnd(seen, at + 2)) {
      if (seen[at + 2] !== 13 || seen[at + 3] !== 10) continue;
      this.#head = parseHead(decoder.decode(seen.subarray(0, at)), at + 4);
      return true;
    }
    if (this.#length > MAX_HEAD_BYTES) throw new ResponseError("HTTP output is missing protocol statement");
    return false;
  }

  #body(framing: Framing, bytes: Uint8Array): Uint8Array | undefined {
    switch (framing.kind) {
      case "length":
        return bytes.length >= framing.bytes ? bytes.subarray(0, framing.bytes) : undefined;
      case "chunked":
        return joinChunks(bytes);
      case "close":
        return undefined;
      case "none":
        return bytes.subarray(0, 0);
    }
  }
}

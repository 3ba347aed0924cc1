/**
 * The drop-in dialect's HTTP/1 parser: exact, small, incremental.
 *
 * L6, pure. Clients are untrusted: a connection never holds more than one line or one body. Source: spec/rest-api.md §1,
 * spec/observed.md "HTTP"; limits and error texts observed on the original.
 */
import { MAX_BODY_BYTES } from "../http_message.ts";
import { checkAcceptEncoding, type HeaderFault, parseContentLength, splitHeader } from "./headers.ts";
import { utf8Fault } from "./utf8_fault.ts";

/** A complete request. */
export interface ParsedRequest {
  readonly kind: "request";
  readonly method: string;
  readonly path: string;
  readonly body: Uint8Array;
}

/** The client waits for leave to send the body. */
export interface ContinueWanted {
  readonly kind: "continue";
  readonly version: string;
}

/** Bytes that are no request. */
export interface ParseFault {
  readonly kind: "fault";
  /** Text for the error body. */
  readonly reason: string;
  /** Whether where the next request begins is unknown: the connection is of no use any more. */
  readonly fatal: boolean;
}

/** What came out of the bytes so far. */
export type ParseResult = ParsedRequest | ContinueWanted | ParseFault;

/** Longest line with its CR LF, in bytes. */
const MAX_LINE_BYTES = 1024;
const CR = 0x0d;
const LF = 0x0a;
const METHODS: ReadonlySet<string> = new Set(["GET", "PUT", "PATCH", "DELETE"]);
const VERSIONS: ReadonlySet<string> = new Set(["HTTP/1.0", "HTTP/1.1"]);
const SCHEME = "http://";
const EMPTY = new Uint8Array();

const latin1 = new TextDecoder("latin1");
const utf8 = new TextDecoder();

const INVALID_REQUEST = "Invalid request.";

interface RequestLine {
  readonly method: string;
  readonly path: string;
  readonly version: string;
}

/** Path of a request target: scheme and host go, all else stays as it is. */
function pathOf(target: string): string {
  if (!target.startsWith(SCHEME)) return target;
  const slash = target.indexOf("/", SCHEME.length);
  return slash < 0 ? "" : target.slice(slash);
}

function parseRequestLine(line: Uint8Array): RequestLine | string {
  const text = latin1.decode(line);
  const first = text.indexOf(" ");
  const second = first < 0 ? -1 : text.indexOf(" ", first + 1);
  if (second < 0) return INVALID_REQUEST;
  const method = text.slice(0, first);
  if (!METHODS.has(method)) return "Invalid HTTP Method: Unsupported HTTP method.";
  if (second === first + 1) return "Invalid URI: Empty URI not allowed.";
  const target = line.subarray(first + 1, second);
  if (utf8Fault(target) !== undefined) return "Invalid URI: Cannot parse URI as UTF-8.";
  const version = text.slice(second + 1);
  if (!VERSIONS.has(version)) return "Invalid HTTP Version: Unsupported HTTP version.";
  return { method, path: pathOf(utf8.decode(target)), version };
}

/** Parses the requests of one connection. */
export class RequestParser {
  /** Bytes of `#bytes` not looked at yet begin here. */
  #at = 0;
  #bytes: Uint8Array = EMPTY;
  #line: RequestLine | undefined;
  #contentLength = 0;
  #expectsContinue = false;
  #body: Uint8Array | undefined;
  #bodyBytes = 0;

  /** Takes bytes as they came in. `bytes` may be reused by the caller afterwards. */
  push(bytes: Uint8Array): void {
    const rest = this.#bytes.length - this.#at;
    const joined = new Uint8Array(rest + bytes.length);
    joined.set(this.#bytes.subarray(this.#at));
    joined.set(bytes, rest);
    this.#bytes = joined;
    this.#at = 0;
  }

  /** Whether a request has begun and is not complete. */
  get midRequest(): boolean {
    return this.#line !== undefined || this.#at < this.#bytes.length;
  }

  /** The next result, or undefined until more bytes come. After a fault everything received so far is gone. */
  next(): ParseResult | undefined {
    while (this.#body === undefined) {
      const line = this.#takeLine();
      if (line === undefined) return undefined;
      const result = line instanceof Uint8Array ? this.#acceptLine(line) : line;
      if (result === undefined) continue;
      if (result.kind === "fault") this.#forget();
      return result;
    }
    return this.#takeBody();
  }

  /** Bytes of the next line without CR LF; a fault if it is too long; undefined if it is not complete. */
  #takeLine(): Uint8Array | ParseFault | undefined {
    const limit = Math.min(this.#bytes.length, this.#at + MAX_LINE_BYTES);
    for (let end = this.#bytes.indexOf(CR, this.#at); end >= 0; end = this.#bytes.indexOf(CR, end + 1)) {
      if (end + 1 >= limit) break;
      if (this.#bytes[end + 1] !== LF) continue;
      const line = this.#bytes.subarray(this.#at, end);
      this.#at = end + 2;
      return line;
    }
    if (limit - this.#at < MAX_LINE_BYTES) return undefined;
    if (this.#line === undefined) return { kind: "fault", reason: INVALID_REQUEST, fatal: true };
    const shown = utf8.decode(this.#bytes.subarray(this.#at, limit));
    return {
      kind: "fault",
      reason: `Invalid header. Reason: Invalid content length. Header: ${shown}`,
      fatal: true,
    };
  }

  #acceptLine(line: Uint8Array): ContinueWanted | ParseFault | undefined {
    if (this.#line === undefined) {
      const parsed = parseRequestLine(line);
      if (typeof parsed === "string") return { kind: "fault", reason: parsed, fatal: false };
      this.#line = parsed;
      return undefined;
    }
    if (line.length > 0) {
      const reason = this.#acceptHeader(line);
      return reason === undefined ? undefined : { kind: "fault", reason, fatal: true };
    }
    this.#body = new Uint8Array(this.#contentLength);
    const { version } = this.#line;
    return this.#expectsContinue && this.#contentLength > 0 ? { kind: "continue", version } : undefined;
  }

  /** Takes one header; the reason if it cannot be taken. */
  #acceptHeader(line: Uint8Array): HeaderFault | undefined {
    const header = splitHeader(line);
    if (typeof header === "string") return header;
    switch (header.name) {
      case "content-length": {
        const length = parseContentLength(header.value);
        if (typeof length === "string") return length;
        if (length > MAX_BODY_BYTES) {
          return `Request payload with size ${length} is larger than the limit of ${MAX_BODY_BYTES} allowed by server.`;
        }
        this.#contentLength = length;
        return undefined;
      }
      case "accept-encoding":
        return checkAcceptEncoding(header.value);
      case "expect":
        if (header.value.trim() === "100-continue") this.#expectsContinue = true;
        return undefined;
      default:
        return undefined;
    }
  }

  #takeBody(): ParsedRequest | undefined {
    const { method, path } = this.#line!;
    const body = this.#body!;
    const count = Math.min(body.length - this.#bodyBytes, this.#bytes.length - this.#at);
    body.set(this.#bytes.subarray(this.#at, this.#at + count), this.#bodyBytes);
    this.#at += count;
    this.#bodyBytes += count;
    if (this.#bodyBytes < body.length) return undefined;
    this.#beginRequest();
    return { kind: "request", method, path, body };
  }

  #beginRequest(): void {
    this.#line = undefined;
    this.#contentLength = 0;
    this.#expectsContinue = false;
    this.#body = undefined;
    this.#bodyBytes = 0;
    if (this.#at === this.#bytes.length) {
      this.#bytes = EMPTY;
      this.#at = 0;
    }
  }

  #forget(): void {
    this.#bytes = EMPTY;
    this.#at = 0;
    this.#beginRequest();
  }
}

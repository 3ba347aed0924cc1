/**
 * The drop-in dialect's HTTP/1 parser: exact, small, incremental.
 *
 * L6, pure. Clients are untrusted: a connection never holds more than one line or one body. Source: spec/rest-api.md §1,
 * spec/observed.md "HTTP"; limits and error texts observed on the original.
 */
import { MAX_BODY_BYTES } from "../http_message.ts";
import {
  checkAcceptEncoding,
  type HeaderFault,
  parseContentLength,
  splitHeader,
  trimmed,
} from "./headers.ts";
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
  /** Whether a limit was passed. */
  readonly tooLong: boolean;
}

/** What came out of the bytes so far. */
export type ParseResult = ParsedRequest | ContinueWanted | ParseFault;

/** Room for input at first; it grows as far as one read and one line need. */
const FIRST_BUFFER_BYTES = 512;
/** Longest line with its CR LF, in bytes. */
const MAX_LINE_BYTES = 1024;
const CR = 0x0d;
const LF = 0x0a;
const METHODS: ReadonlySet<string> = new Set(["GET", "PUT", "PATCH", "DELETE"]);
const VERSIONS: ReadonlySet<string> = new Set(["HTTP/1.0", "HTTP/1.1"]);
const SCHEME = "http://";
const EMPTY = new Uint8Array();

const ASCII = /^[\0-\x7f]*$/;
const utf8 = new TextDecoder();

const INVALID_REQUEST = "Invalid request.";

interface RequestLine {
  readonly method: string;
  readonly path: string;
  readonly version: string;
}

/** A line's bytes as characters of the same value. */
function shortText(line: Uint8Array): string {
  return String.fromCharCode.apply(null, line as unknown as number[]);
}

/** Path of a request target: scheme and host go, all else stays as it is. */
function pathOf(target: string): string {
  if (!target.startsWith(SCHEME)) return target;
  const slash = target.indexOf("/", SCHEME.length);
  return slash < 0 ? "" : target.slice(slash);
}

function parseRequestLine(line: Uint8Array): RequestLine | string {
  const text = shortText(line);
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
  // The decoder is worth its cost only where there is something to decode.
  const path = text.slice(first + 1, second);
  return { method, path: pathOf(ASCII.test(path) ? path : utf8.decode(target)), version };
}

/** Parses the requests of one connection. */
export class RequestParser {
  /** Input; what is not looked at yet lies from `#at` to `#end`. */
  #bytes = new Uint8Array(FIRST_BUFFER_BYTES);
  #at = 0;
  #end = 0;
  #line: RequestLine | undefined;
  #contentLength = 0;
  #expectsContinue = false;
  /** Whether the length announced for the body is beyond the limit. */
  #tooLong = false;
  #body: Uint8Array | undefined;
  #bodyBytes = 0;

  /** Takes bytes as they came in. `bytes` may be reused by the caller afterwards. */
  push(bytes: Uint8Array): void {
    const rest = this.#end - this.#at;
    if (this.#at > 0) this.#bytes.copyWithin(0, this.#at, this.#end);
    if (rest + bytes.length > this.#bytes.length) {
      const grown = new Uint8Array(rest + bytes.length);
      grown.set(this.#bytes.subarray(0, rest));
      this.#bytes = grown;
    }
    this.#bytes.set(bytes, rest);
    this.#at = 0;
    this.#end = rest + bytes.length;
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
    const bytes = this.#bytes;
    const limit = Math.min(this.#end, this.#at + MAX_LINE_BYTES);
    for (let end = this.#at; end + 1 < limit; end++) {
      if (bytes[end] !== CR || bytes[end + 1] !== LF) continue;
      const line = bytes.subarray(this.#at, end);
      this.#at = end + 2;
      return line;
    }
    if (limit - this.#at < MAX_LINE_BYTES) return undefined;
    if (this.#line === undefined) {
      return { kind: "fault", reason: INVALID_REQUEST, fatal: true, tooLong: true };
    }
    const shown = utf8.decode(bytes.subarray(this.#at, limit));
    return {
      kind: "fault",
      reason: `Invalid header. Reason: Invalid content length. Header: ${shown}`,
      fatal: true,
      tooLong: true,
    };
  }

  #acceptLine(line: Uint8Array): ContinueWanted | ParseFault | undefined {
    if (this.#line === undefined) {
      const parsed = parseRequestLine(line);
      if (typeof parsed === "string") return { kind: "fault", reason: parsed, fatal: false, tooLong: false };
      this.#line = parsed;
      return undefined;
    }
    if (line.length > 0) {
      const reason = this.#acceptHeader(line);
      return reason === undefined
        ? undefined
        : { kind: "fault", reason, fatal: true, tooLong: this.#tooLong };
    }
    this.#body = this.#contentLength === 0 ? EMPTY : new Uint8Array(this.#contentLength);
    const { version } = this.#line;
    return this.#expectsContinue && this.#contentLength > 0 ? { kind: "continue", version } : undefined;
  }

  /** Takes one header; the reason if it cannot be taken. */
  #acceptHeader(line: Uint8Array): HeaderFault | undefined {
    const header = splitHeader(line);
    if (header === undefined || typeof header === "string") return header;
    switch (header.name) {
      case "content-length": {
        const length = parseContentLength(header.value);
        if (typeof length === "string") return length;
        if (length > MAX_BODY_BYTES) {
          this.#tooLong = true;
          return `Request payload with size ${length} is larger than the limit of ${MAX_BODY_BYTES} allowed by server.`;
        }
        this.#contentLength = length;
        return undefined;
      }
      case "accept-encoding":
        return checkAcceptEncoding(header.value);
      case "expect":
        if (trimmed(header.value) === "100-continue") this.#expectsContinue = true;
        return undefined;
      default:
        return undefined;
    }
  }

  #takeBody(): ParsedRequest | undefined {
    const { method, path } = this.#line!;
    const body = this.#body!;
    if (body.length > 0) {
      const count = Math.min(body.length - this.#bodyBytes, this.#end - this.#at);
      body.set(this.#bytes.subarray(this.#at, this.#at + count), this.#bodyBytes);
      this.#at += count;
      this.#bodyBytes += count;
      if (this.#bodyBytes < body.length) return undefined;
    }
    this.#beginRequest();
    return { kind: "request", method, path, body };
  }

  #beginRequest(): void {
    this.#line = undefined;
    this.#contentLength = 0;
    this.#expectsContinue = false;
    this.#tooLong = false;
    this.#body = undefined;
    this.#bodyBytes = 0;
  }

  #forget(): void {
    this.#at = this.#end;
    this.#beginRequest();
  }
}

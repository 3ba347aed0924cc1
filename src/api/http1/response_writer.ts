/**
 * Answers in the drop-in dialect: bare status line, headers in a fixed order and case.
 *
 * L6, pure. Source: spec/rest-api.md §1.1, spec/consumers.md "HTTP wire" (clients parse these exact bytes).
 */
import type { HttpResponse } from "../http_message.ts";
import { JSON_CONTENT } from "../http_message.ts";

const API_SERVER = "Cloud Hypervisor API";
/** Name in answers the HTTP layer itself gives. */
const HTTP_SERVER = "Firecracker API";
const NO_CONTENT = 204;

const encoder = new TextEncoder();

/** The last answer of usual size: clients that poll get the same one again and again. */
let last: { status: number; body: string | undefined; bytes: Uint8Array<ArrayBuffer> } | undefined;
const SHORT_BODY = 16 << 10;

/** An answer of the API. The bytes are good until the next call, and not to be changed. */
export function responseBytes(response: HttpResponse): Uint8Array<ArrayBuffer> {
  const { status, body, contentType } = response;
  if (last !== undefined && last.status === status && last.body === body && contentType === undefined) {
    return last.bytes;
  }
  const bytes = encodeResponse(response);
  if (contentType === undefined && (body?.length ?? 0) <= SHORT_BODY) {
    last = { status, body, bytes: bytes.slice() };
  }
  return bytes;
}

function encodeResponse({ status, body, contentType }: HttpResponse): Uint8Array<ArrayBuffer> {
  const head = `HTTP/1.1 ${status} \r\nServer: ${API_SERVER}\r\nConnection: keep-alive\r\n`;
  if (status === NO_CONTENT) return encoder.encode(`${head}\r\n`);
  return withContent(head, body ?? "", contentType ?? JSON_CONTENT);
}

/** Room for answers of usual size, used again and again. */
const scratch = new Uint8Array(1 << 16);
/** UTF-8 needs at most three bytes for a UTF-16 unit. */
const MAX_BYTES_PER_UNIT = 3;

function withContent(head: string, body: string, contentType: string): Uint8Array<ArrayBuffer> {
  const content = `${head}Content-Type: ${contentType}\r\nContent-Length: `;
  // Texts of ASCII only are as many bytes as characters: one encoding does.
  const text = `${content}${body.length}\r\n\r\n${body}`;
  if (text.length * MAX_BYTES_PER_UNIT <= scratch.length) {
    const { written } = encoder.encodeInto(text, scratch);
    if (written === text.length) return scratch.subarray(0, written);
  }
  const length = encoder.encode(body).length;
  return encoder.encode(`${content}${length}\r\n\r\n${body}`);
}

/** The answer to bytes that are no request. */
export function faultBytes(reason: string): Uint8Array<ArrayBuffer> {
  const head = `HTTP/1.1 400 \r\nServer: ${HTTP_SERVER}\r\nConnection: keep-alive\r\n`;
  const body = `{ "error": "${reason}\nAll previous unanswered requests will be dropped." }`;
  return withContent(head, body, JSON_CONTENT);
}

/** Leave to send the body. */
export function continueBytes(version: string): Uint8Array<ArrayBuffer> {
  return encoder.encode(`${version} 100 \r\nServer: ${HTTP_SERVER}\r\nConnection: keep-alive\r\n\r\n`);
}

/** The answer to a connection beyond the limit; it is closed afterwards. */
export const TOO_MANY_CONNECTIONS: Uint8Array<ArrayBuffer> = encoder.encode(
  `HTTP/1.1 503\r\nServer: ${HTTP_SERVER}\r\nConnection: close\r\nContent-Length: 40\r\n\r\n` +
    '{ "error": "Too many open connections" }',
);

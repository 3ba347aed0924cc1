/**
 * The headers that mean something to the drop-in dialect, and what is wrong with those that cannot be taken.
 *
 * L6, pure. Source: spec/rest-api.md §1, spec/observed.md "HTTP"; texts observed on the original.
 */
import { utf8Fault } from "./utf8_fault.ts";

/** Text for the error body. */
export type HeaderFault = string;

/** One header: name in lower case, value as sent (spaces included). */
export interface Header {
  readonly name: string;
  readonly value: string;
}

const U32_MAX = 0xffff_ffff;
const DIGITS = /^\+?[0-9]+$/;
const utf8 = new TextDecoder();

const invalid = (text: string): HeaderFault => `Invalid header. Reason: ${text}`;
const invalidValue = (name: string, value: string): HeaderFault =>
  invalid(`Invalid value. Key:${name}; Value:${value}`);

/** Splits a header line at its first colon. */
export function splitHeader(line: Uint8Array): Header | HeaderFault {
  const fault = utf8Fault(line);
  if (fault !== undefined) return invalid(`Header contains invalid characters. Key: ${fault}`);
  const text = utf8.decode(line);
  const colon = text.indexOf(":");
  if (colon < 0) return invalid(`Header is incorrectly formatted. Key: ${text}`);
  return { name: text.slice(0, colon).trim().toLowerCase(), value: text.slice(colon + 1) };
}

/** Body length in bytes, up to 2^32−1. */
export function parseContentLength(value: string): number | HeaderFault {
  const text = value.trim();
  const length = DIGITS.test(text) ? Number(text) : NaN;
  return length <= U32_MAX ? length : invalidValue("Content-Length", value);
}

/** Refuses a client that takes nothing unencoded: we never encode. */
export function checkAcceptEncoding(value: string): HeaderFault | undefined {
  const text = value.trim();
  if (text === "") return "Invalid request.";
  for (const item of text.split(",")) {
    const coding = item.trim();
    const refused = coding === "identity;q=0" || (coding === "*;q=0" && !text.includes("identity"));
    if (refused) return invalidValue("Accept-Encoding", item);
  }
  return undefined;
}

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
const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

const OUTER_BLANKS = /^\p{White_Space}+|\p{White_Space}+$/gu;

/** As `trim()`, for what Unicode calls blank: U+0085 is, U+FEFF is not. */
export function trimmed(text: string): string {
  return text.replace(OUTER_BLANKS, "");
}

const invalid = (text: string): HeaderFault => `Invalid header. Reason: ${text}`;
const invalidValue = (name: string, value: string): HeaderFault =>
  invalid(`Invalid value. Key:${name}; Value:${value}`);

const COLON = 0x3a;
const FIRST_NON_ASCII = 0x80;
const LOWER_CASE = 0x20;
const letter = (text: string) => text.charCodeAt(0);
/** The names that matter, by length: their first letter tells them from others of that length well enough. */
const FIRST_LETTER_BY_LENGTH: ReadonlyMap<number, number> = new Map(
  ["content-length", "accept-encoding", "expect"].map((name) => [name.length, letter(name)]),
);
const isBlank = (byte: number) => byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);

/** Whether the first `length` bytes can be a name that matters. Names are trimmed, so blanks may stand around them. */
function mayMatter(line: Uint8Array, length: number): boolean {
  if (isBlank(line[0]) || (length > 0 && isBlank(line[length - 1]))) return true;
  return FIRST_LETTER_BY_LENGTH.get(length) === (line[0] | LOWER_CASE);
}

/** Splits a header line at its first colon; undefined for one that is well-formed and means nothing here. */
export function splitHeader(line: Uint8Array): Header | HeaderFault | undefined {
  let colon = -1;
  let ascii = true;
  for (let at = 0; at < line.length; at++) {
    if (line[at] >= FIRST_NON_ASCII) ascii = false;
    else if (line[at] === COLON && colon < 0) colon = at;
  }
  if (ascii && colon >= 0 && !mayMatter(line, colon)) return undefined;
  const fault = ascii ? undefined : utf8Fault(line);
  if (fault !== undefined) return invalid(`Header contains invalid characters. Key: ${fault}`);
  const text = utf8.decode(line);
  if (colon < 0) return invalid(`Header is incorrectly formatted. Key: ${text}`);
  const end = text.indexOf(":");
  return { name: trimmed(text.slice(0, end)).toLowerCase(), value: text.slice(end + 1) };
}

/** Body length in bytes, up to 2^32−1. */
export function parseContentLength(value: string): number | HeaderFault {
  const text = trimmed(value);
  const length = DIGITS.test(text) ? Number(text) : NaN;
  return length <= U32_MAX ? length : invalidValue("Content-Length", value);
}

/** Refuses a client that takes nothing unencoded: we never encode. */
export function checkAcceptEncoding(value: string): HeaderFault | undefined {
  const text = trimmed(value);
  if (text === "") return "Invalid request.";
  for (const item of text.split(",")) {
    const coding = trimmed(item);
    const refused = coding === "identity;q=0" || (coding === "*;q=0" && !text.includes("identity"));
    if (refused) return invalidValue("Accept-Encoding", item);
  }
  return undefined;
}

/**
 * The syntax of option values: `key=value` lists, quotes, brackets, and the kinds of values.
 *
 * L6, main isolate, pure. Readers return undefined for a value they refuse, so that the caller can name the parameter.
 * Source: spec/cli.md §1, spec/observed.md "Command line values". Stricter than the original in that nothing wraps
 * around or is truncated.
 */
import { MAC_ADDRESS } from "@vmm/base/mac_address.ts";
import { OptionError } from "./option_error.ts";

const U64_MAX = 0xffff_ffff_ffff_ffffn;
/** Longest list a range may unfold into; no list of the command line has more meaningful entries. */
const MAX_LIST_LENGTH = 65_536;

/** Parts of `text` between `separator`s outside of quotes and brackets; undefined when these do not balance. */
export function splitOutside(text: string, separator: string): string[] | undefined {
  const parts: string[] = [];
  let start = 0;
  let depth = 0;
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (char === '"') {
      quoted = !quoted;
    } else if (quoted) {
      continue;
    } else if (char === "[") {
      depth++;
    } else if (char === "]") {
      if (--depth < 0) return undefined;
    } else if (char === separator && depth === 0) {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  if (quoted || depth > 0) return undefined;
  parts.push(text.slice(start));
  return parts;
}

/** `text` without its quotes; a doubled quote inside quotes stays as one. Never throws. */
export function withoutQuotes(text: string): string {
  if (!text.includes('"')) return text;
  let result = "";
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    if (text[i] !== '"') {
      result += text[i];
    } else if (quoted && text[i + 1] === '"') {
      result += text[++i];
    } else {
      quoted = !quoted;
    }
  }
  return result;
}

/**
 * The parameters of one option value, raw (quotes kept, trimmed), by key; a parameter without value reads as "".
 * `takesValue(key)`: true for `key=value`, false for a bare word (a value after it is ignored), undefined for an
 * unknown key. A repeated key: the last wins. @throws OptionError
 */
export function readPairs(
  text: string,
  takesValue: (key: string) => boolean | undefined,
): Map<string, string> {
  const pairs = new Map<string, string>();
  if (text.trim() === "") return pairs;
  const parts = splitOutside(text.trim(), ",");
  if (parts === undefined) throw OptionError.invalidSyntax(text);
  for (const part of parts) {
    const equals = part.indexOf("=");
    const key = equals < 0 ? part : part.slice(0, equals);
    const needsValue = takesValue(key);
    if (needsValue === undefined) throw OptionError.unknownOption(key);
    if (needsValue && equals < 0) throw OptionError.invalidSyntax(key);
    pairs.set(key, needsValue ? part.slice(equals + 1).trim() : "");
  }
  return pairs;
}

/** on, off, true, false in any case; quotes are not taken off. */
export function readToggle(raw: string): boolean | undefined {
  switch (raw.toLowerCase()) {
    case "on":
    case "true":
      return true;
    case "off":
    case "false":
    case "":
      return false;
    default:
      return undefined;
  }
}

function readDigits(text: string): bigint | undefined {
  return /^\+?[0-9]+$/.test(text) ? BigInt(text.replace("+", "")) : undefined;
}

/** An unsigned decimal number up to `max`. */
export function readBig(raw: string, max = U64_MAX): bigint | undefined {
  const value = readDigits(withoutQuotes(raw));
  return value !== undefined && value <= max ? value : undefined;
}

/** An unsigned decimal number up to `max`, at most 2^53−1. */
export function readUnsigned(raw: string, max: number): number | undefined {
  const value = readBig(raw, BigInt(max));
  return value === undefined ? undefined : Number(value);
}

/** A signed 32-bit decimal number. */
export function readI32(raw: string): number | undefined {
  const text = withoutQuotes(raw);
  if (!/^[+-]?[0-9]+$/.test(text)) return undefined;
  const value = Number(text);
  return value >= -0x8000_0000 && value <= 0x7fff_ffff ? value : undefined;
}

const SIZE_SHIFTS: Readonly<Record<string, bigint>> = { K: 10n, M: 20n, G: 30n };

/** A size in bytes: decimal, with an optional K, M or G of powers of 1024. Spaces around it may be in the quotes. */
export function readSize(raw: string): bigint | undefined {
  const match = /^(\+?[0-9]+)([KMG]?)$/.exec(withoutQuotes(raw).trim());
  if (match === null) return undefined;
  const value = readDigits(match[1])! << (SIZE_SHIFTS[match[2]] ?? 0n);
  return value <= U64_MAX ? value : undefined;
}

/** A 16-bit number in hexadecimal after `0x`. */
export function readHex16(raw: string): number | undefined {
  const match = /^0x\+?([0-9a-fA-F]+)$/.exec(withoutQuotes(raw));
  if (match === null) return undefined;
  const value = Number.parseInt(match[1], 16);
  return value <= 0xffff ? value : undefined;
}

const withoutBrackets = (text: string): string => text.replace(/^[[\]]+|[[\]]+$/g, "");

/** `[0,2-4,6]`; brackets optional. Ranges ascend; no entry is above `max` (at most 2^53−1). */
export function readIntegers(raw: string, max: number): number[] | undefined {
  const list: number[] = [];
  for (const item of withoutBrackets(raw.trim()).split(",")) {
    const [first, last, ...rest] = item.split("-").map(readDigits);
    const end = item.includes("-") ? last : first;
    if (first === undefined || end === undefined || rest.length > 0 || end > BigInt(max)) return undefined;
    if (item.includes("-") && end <= first) return undefined;
    if (end - first >= MAX_LIST_LENGTH - list.length) return undefined;
    for (let value = first; value <= end; value++) list.push(Number(value));
  }
  return list;
}

/** `[a,b]`; brackets optional, quotes kept. */
export function readStrings(raw: string): string[] | undefined {
  return splitOutside(withoutBrackets(raw.trim()).trim(), ",");
}

/** `[key@value,key@[list]]`: keys without quotes, values raw. No key or value is empty. */
export function readTuples(raw: string): [key: string, value: string][] | undefined {
  const text = raw.trim();
  if (!text.startsWith("[") || !text.endsWith("]")) return undefined;
  const tuples: [string, string][] = [];
  for (const item of splitOutside(text.slice(1, -1).trim(), ",") ?? [""]) {
    const sides = splitOutside(item, "@");
    if (sides?.length !== 2 || sides[0] === "" || sides[1] === "") return undefined;
    tuples.push([withoutQuotes(sides[0]), sides[1]]);
  }
  return tuples;
}

/** Six two-digit hexadecimal groups with `:`, in lower case. */
export function readMac(raw: string): string | undefined {
  const text = withoutQuotes(raw).toLowerCase();
  return MAC_ADDRESS.test(text) ? text : undefined;
}

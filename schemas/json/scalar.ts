/**
 * Checking a value found in JSON against the scalar that is wanted, and saying what was found instead.
 *
 * L0, main isolate. Source: spec/observed.md "JSON".
 */
import { floatText, JsonFault, quoted } from "./fault.ts";
import type { JsonNumber } from "./number.ts";
import type { ScalarName } from "@schemas/primitives.ts";
import { canonicalIpAddress } from "@vmm/base/ip_address.ts";
import { MAC_ADDRESS } from "@vmm/base/mac_address.ts";

/** A value found, reduced to what messages and scalars need. */
export type Found =
  | { readonly kind: "null" }
  | { readonly kind: "list" }
  | { readonly kind: "object" }
  | { readonly kind: "boolean"; readonly value: boolean }
  | { readonly kind: "string"; readonly value: string }
  | JsonNumber;

/** How each scalar is called in "expected …". */
const EXPECTED: Readonly<Record<ScalarName, string>> = {
  u8: "u8",
  u16: "u16",
  u32: "u32",
  u64: "u64",
  usize: "usize",
  i32: "i32",
  i64: "i64",
  "nonzero u32": "a nonzero u32",
  "nonzero u64": "a nonzero u64",
  boolean: "a boolean",
  string: "a string",
  path: "path string",
  mac: "a string",
  ip: "IP address",
};

/** Smallest and largest value of each integer. */
const RANGES: Readonly<Partial<Record<ScalarName, readonly [bigint, bigint]>>> = {
  u8: [0n, 0xffn],
  u16: [0n, 0xffffn],
  u32: [0n, 0xffff_ffffn],
  u64: [0n, 0xffff_ffff_ffff_ffffn],
  usize: [0n, 0xffff_ffff_ffff_ffffn],
  i32: [-0x8000_0000n, 0x7fff_ffffn],
  i64: [-(1n << 63n), (1n << 63n) - 1n],
  "nonzero u32": [1n, 0xffff_ffffn],
  "nonzero u64": [1n, 0xffff_ffff_ffff_ffffn],
};

/** What was found, in words. */
function foundText(found: Found): string {
  switch (found.kind) {
    case "null":
      return "null";
    case "list":
      return "sequence";
    case "object":
      return "map";
    case "boolean":
      return `boolean \`${found.value}\``;
    case "string":
      return `string ${quoted(found.value)}`;
    case "float":
      return `floating point \`${floatText(found.value)}\``;
    case "unsigned":
    case "signed":
      return `integer \`${found.value}\``;
  }
}

/** Fault without a position: a value of another type than `expected`. */
export function wrongType(found: Found, expected: string): JsonFault {
  return new JsonFault(`invalid type: ${foundText(found)}, expected ${expected}`);
}

/** Fault without a position: a value of the right type that is not acceptable. */
export function wrongValue(found: Found, expected: string): JsonFault {
  return new JsonFault(`invalid value: ${foundText(found)}, expected ${expected}`);
}

/**
 * The value of `scalar` that `found` stands for; `big` asks for a bigint. Throws `JsonFault` without a position.
 */
export function takeScalar(scalar: ScalarName, big: boolean, found: Found): unknown {
  const range = RANGES[scalar];
  if (range !== undefined) {
    if (found.kind !== "unsigned" && found.kind !== "signed") throw wrongType(found, EXPECTED[scalar]);
    const { value } = found;
    if (value < range[0] || value > range[1]) throw wrongValue(found, EXPECTED[scalar]);
    if (big) return value;
    const small = Number(value);
    if (!Number.isSafeInteger(small)) throw wrongValue(found, `${EXPECTED[scalar]} below 2^53`);
    return small;
  }
  if (scalar === "boolean") {
    if (found.kind !== "boolean") throw wrongType(found, EXPECTED.boolean);
    return found.value;
  }
  if (found.kind !== "string") throw wrongType(found, EXPECTED[scalar]);
  return scalar === "mac" ? macAddress(found.value) : scalar === "ip" ? ipAddress(found.value) : found.value;
}

/** Descriptor numbers are checked and forgotten: they mean nothing in another process. */
export function takeDescriptor(found: Found): number {
  takeScalar("i32", false, found);
  return -1;
}

function macAddress(text: string): string {
  if (MAC_ADDRESS.test(text)) return text.toLowerCase();
  throw new JsonFault(`The provided MAC address is invalid: parsing of ${text} into a MAC address failed`);
}

function ipAddress(text: string): string {
  const canonical = canonicalIpAddress(text);
  if (canonical === undefined) throw new JsonFault("invalid IP address syntax");
  return canonical;
}

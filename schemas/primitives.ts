/**
 * The scalar, list and structure builders every schema is made of, with the facts the JSON reader, the JSON
 * writer and the OpenAPI generator need beside the zod type.
 *
 * L0, zod only, main isolate only.
 * Source: spec/schemas.md "Configuration and API schemas"; type names as the original's error texts spell them.
 */
import * as z from "zod";
import { canonicalIpAddress } from "@vmm/base/ip_address.ts";
import { MAC_ADDRESS } from "@vmm/base/mac_address.ts";

// Compiling validators with `new Function` costs 5 ms at the first parse and gains nothing for one VM.
z.config({ jitless: true });

/** Largest value of an unsigned 64-bit integer. */
export const U64_MAX = 0xffff_ffff_ffff_ffffn;

/** How a scalar is named in the texts of type errors, and how it is read. */
export type ScalarName =
  | "u8"
  | "u16"
  | "u32"
  | "u64"
  | "usize"
  | "i32"
  | "i64"
  | "nonzero u32"
  | "nonzero u64"
  | "boolean"
  | "string"
  | "path"
  | "mac"
  | "ip";

/** A scalar of the wire format. `big` tells whether its JavaScript type is `bigint`. */
export interface ScalarTraits {
  readonly kind: "scalar";
  readonly scalar: ScalarName;
  readonly big: boolean;
}

/** An enumeration whose variants carry no data. */
export interface EnumTraits {
  readonly kind: "enum";
  /** Component name in the OpenAPI document. */
  readonly name: string;
}

/** What a structure's fields do beyond their types. */
export interface StructOptions {
  /** Name in error texts where it differs from the component name. */
  readonly wireName?: string;
  /** Groups of fields the original keeps in a structure of its own that is flattened into this one, in order. */
  readonly flattened?: readonly (readonly string[])[];
  /** Unknown fields are an error. */
  readonly denyUnknown?: boolean;
  /** Other spellings accepted for a field, by field. */
  readonly aliases?: Readonly<Record<string, readonly string[]>>;
  /** Boolean fields left out of the output while false. */
  readonly omitFalse?: readonly string[];
  /** Optional fields written as `null` when absent. */
  readonly nullWhenAbsent?: readonly string[];
  /** Optional fields that must be present when the structure is given as an array by position. */
  readonly requiredInSequence?: readonly string[];
}

/** A structure: its component name and options. Field order is the output order and the positional order. */
export interface StructTraits extends StructOptions {
  readonly kind: "struct";
  readonly name: string;
}

/** A list of descriptor numbers, or one: values from JSON are never used, they read as −1. */
export interface DescriptorTraits {
  readonly kind: "descriptor";
}

/** A list or map with a component name of its own in the OpenAPI document. */
export interface NamedTraits {
  readonly kind: "named";
  readonly name: string;
}

/** What is known of a schema beside its zod type. */
export type Traits = ScalarTraits | EnumTraits | StructTraits | DescriptorTraits | NamedTraits;

const registry = z.registry<Traits>();

/** Facts registered for `schema`, or undefined for a plain zod type (array, record, wrapper). Never throws. */
export function traitsOf(schema: z.core.$ZodType): Traits | undefined {
  return registry.get(schema as z.ZodType) as Traits | undefined;
}

function scalar<T extends z.ZodType>(schema: T, name: ScalarName, big = false): T {
  registry.add(schema, { kind: "scalar", scalar: name, big } as never);
  return schema;
}

/** Unsigned 8-bit integer. */
export const u8 = () => scalar(z.int().min(0).max(0xff), "u8");
/** Unsigned 16-bit integer. */
export const u16 = () => scalar(z.int().min(0).max(0xffff), "u16");
/** Unsigned 32-bit integer. */
export const u32 = () => scalar(z.int().min(0).max(0xffff_ffff), "u32");
/** Unsigned 64-bit integer, kept exact as `bigint`. */
export const u64 = () => scalar(z.bigint().min(0n).max(U64_MAX), "u64", true);
/** A size the original keeps in a machine word, kept exact as `bigint`. */
export const usizeBytes = () => scalar(z.bigint().min(0n).max(U64_MAX), "usize", true);
/** A count or index the original keeps in a machine word; `number`, values above 2^53−1 are refused. */
export const usize = () => scalar(z.int().min(0), "usize");
/** A count or index the original keeps in 64 bits; `number`, values above 2^53−1 are refused. */
export const u64Index = () => scalar(z.int().min(0), "u64");
/** Signed 64-bit integer that fits a `number` in practice (process ids). */
export const i64Index = () => scalar(z.int(), "i64");
/** 1 to 2^32−1. */
export const nonZeroU32 = () => scalar(z.int().min(1).max(0xffff_ffff), "nonzero u32");
/** 1 to 2^64−1, kept exact as `bigint`. */
export const nonZeroU64 = () => scalar(z.bigint().min(1n).max(U64_MAX), "nonzero u64", true);
/** Boolean. */
export const bool = () => scalar(z.boolean(), "boolean");
/** Text. */
export const text = () => scalar(z.string(), "string");
/** File system path. */
export const path = () => scalar(z.string(), "path");
/** MAC address as six two-digit hexadecimal groups with `:`; kept in lower case. */
export const mac = () => scalar(z.string().toLowerCase().regex(MAC_ADDRESS, "Invalid MAC address"), "mac");
/** IPv4 or IPv6 address; kept in canonical form. */
export const ipAddress = () =>
  scalar(
    z.string().refine((value) => canonicalIpAddress(value) !== undefined, "Invalid IP address")
      .overwrite((value) => canonicalIpAddress(value) ?? value),
    "ip",
  );

/** One descriptor number. In JSON any 32-bit integer is accepted and read as −1. */
export function descriptor(): z.ZodNumber {
  const schema = z.int();
  registry.add(schema, { kind: "descriptor" } as never);
  return schema;
}

/** Enumeration without data, named `name` in the OpenAPI document; `variants` in declaration order. */
export function choice<const V extends readonly [string, ...string[]]>(name: string, variants: V) {
  const schema = z.enum(variants);
  registry.add(schema, { kind: "enum", name } as never);
  return schema;
}

/** `schema`, a list, map or union, under a component name of its own. */
export function named<T extends z.ZodType>(name: string, schema: T): T {
  registry.add(schema, { kind: "named", name } as never);
  return schema;
}

/** Structure `name` with `shape` in output order. */
export function struct<S extends z.core.$ZodLooseShape>(
  name: string,
  shape: S,
  options: StructOptions = {},
): z.ZodObject<S, z.core.$strip> {
  const schema = z.object(shape);
  registry.add(schema, { kind: "struct", name, ...options } as never);
  return schema;
}

/** A random unicast, locally administered MAC address beginning with `2e:`, as absent addresses become. */
export function randomMac(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(6));
  bytes[0] = 0x2e;
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

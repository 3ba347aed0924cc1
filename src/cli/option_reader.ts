/**
 * Option values into configuration structures, by their parameter tables.
 *
 * L6, main isolate, pure. Source: spec/cli.md §1; the tables are in schemas/cli.
 */
import type {
  BigKind,
  NumberKind,
  NumberListKind,
  Parameter,
  ParameterTable,
} from "@schemas/cli/parameter.ts";
import { canonicalIpAddress } from "@vmm/base/ip_address.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import { OptionError } from "./option_error.ts";
import {
  readBig,
  readHex16,
  readI32,
  readIntegers,
  readMac,
  readPairs,
  readSize,
  readStrings,
  readToggle,
  readTuples,
  readUnsigned,
  withoutQuotes,
} from "./option_parser.ts";

const MAX = { u8: 0xff, u16: 0xffff, u32: 0xffff_ffff, i32: 0x7fff_ffff, usize: Number.MAX_SAFE_INTEGER };

const LIST_MAX: Readonly<Record<NumberListKind, number>> = {
  u16List: MAX.u16,
  u32List: MAX.u32,
  i32List: MAX.i32,
  usizeList: MAX.usize,
};

/** Reads the raw value of a parameter of kind "special"; undefined refuses it. @throws OptionError for a text of its own */
export type SpecialReader = (raw: string) => unknown;

/** What an option value says. Fields without value and without default are absent. */
export interface ReadOption {
  /** Fields of the structure, in table order. */
  readonly fields: Record<string, unknown>;
  /** Raw values by key, as given; bare words, and parameters given without value, read as "". */
  readonly given: ReadonlyMap<string, string>;
}

function readNumber(kind: NumberKind, raw: string): number | undefined {
  switch (kind) {
    case "i32":
      return readI32(raw);
    case "hex16":
      return readHex16(raw);
    default:
      return readUnsigned(raw, MAX[kind]);
  }
}

const readBigKind = (kind: BigKind, raw: string) => kind === "size" ? readSize(raw) : readBig(raw);

type TupleParameter = Extract<Parameter, { kind: "tuples" }>;

function readTupleList({ tuple }: TupleParameter, raw: string): Record<string, unknown>[] | undefined {
  const [keyField, keyKind] = tuple.key;
  const [valueField, valueKind] = tuple.value;
  const entries: Record<string, unknown>[] = [];
  for (const [key, value] of readTuples(raw) ?? []) {
    const left = keyKind === "string" ? key : readUnsigned(key, MAX[keyKind]);
    const right = valueKind in LIST_MAX
      ? readIntegers(value, LIST_MAX[valueKind as NumberListKind])
      : value.includes('"') // Quotes are for keys only.
      ? undefined
      : readUnsigned(value, MAX[valueKind as "u8" | "u32" | "i32"]);
    if (left === undefined || right === undefined) return undefined;
    entries.push({ [keyField]: left, [valueField]: right });
  }
  return entries.length === 0 ? undefined : entries;
}

function readChoice({ choices, exactCase }: Extract<Parameter, { kind: "choice" }>, raw: string) {
  const word = withoutQuotes(raw);
  const key = exactCase ? word : word.toLowerCase();
  return Object.hasOwn(choices, key) ? choices[key] : undefined;
}

function readValue(parameter: Parameter, raw: string, special: SpecialReader | undefined): unknown {
  switch (parameter.kind) {
    case "toggle":
      return readToggle(raw);
    case "u8":
    case "u16":
    case "u32":
    case "i32":
    case "usize":
    case "hex16":
      return readNumber(parameter.kind, raw);
    case "u64":
    case "size":
      return readBigKind(parameter.kind, raw);
    case "string":
      return withoutQuotes(raw);
    case "mac":
      return readMac(raw);
    case "ip":
      return canonicalIpAddress(withoutQuotes(raw));
    case "u16List":
    case "u32List":
    case "i32List":
    case "usizeList":
      return readIntegers(raw, LIST_MAX[parameter.kind]);
    case "stringList":
      return readStrings(raw);
    case "choice":
      return readChoice(parameter, raw);
    case "tuples":
      return readTupleList(parameter, raw);
    case "special":
      return special?.(raw);
    case "word":
      return undefined;
  }
}

/**
 * Runs `read` with `label` above what it refuses. Faults that name the option themselves, and those of the PCI block, stay as
 * they are. @throws OptionError, or ContextError above one
 */
export function labelled<T>(label: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof OptionError && error.fault !== "rule") throw new ContextError([label], error);
    throw error;
  }
}

/** Text of the chain above a refused value of the block all PCI devices share. */
const PCI_CONTEXT = "Error parsing common PCI device config";

function valueOf(
  key: string,
  parameter: Parameter,
  raw: string,
  special: SpecialReader | undefined,
): unknown {
  const value = readValue(parameter, raw, special);
  if (value === undefined) {
    const refused = OptionError.conversion(key, raw);
    throw parameter.pci ? new ContextError([PCI_CONTEXT], refused) : refused;
  }
  if (parameter.longest !== undefined) {
    const [bytes, message] = parameter.longest;
    if (new TextEncoder().encode(String(value)).length > bytes) throw OptionError.rule(message);
  }
  return value;
}

type Buckets = Record<string, Record<string, bigint>>;

/** Buckets with a size and a refill time; undefined when there is none. */
function limiterOf(buckets: Buckets): Record<string, unknown> | undefined {
  const limiter: Record<string, unknown> = {};
  for (const name of ["bandwidth", "ops"]) {
    const { size = 0n, one_time_burst = 0n, refill_time = 0n } = buckets[name] ?? {};
    if (size !== 0n && refill_time !== 0n) limiter[name] = { size, one_time_burst, refill_time };
  }
  return Object.keys(limiter).length === 0 ? undefined : limiter;
}

function requirePresent(table: ParameterTable, given: ReadonlyMap<string, string>): void {
  for (const key in table) {
    const { missing } = table[key];
    if (missing !== undefined && !given.get(key)) throw OptionError.rule(missing);
  }
}

/** Parameters in the order the original looks at them, apart from the PCI block. */
type Part = "own" | "bucket" | "pci";

const partOf = ({ pci, bucket }: Parameter): Part => pci ? "pci" : bucket !== undefined ? "bucket" : "own";

/** Reads the parameters of one part into `values`. */
function readValues(
  table: ParameterTable,
  given: ReadonlyMap<string, string>,
  special: Readonly<Record<string, SpecialReader>>,
  part: Part,
  values: Map<string, unknown>,
): void {
  for (const key in table) {
    const parameter = table[key];
    if (partOf(parameter) !== part) continue;
    const raw = given.get(key) ?? "";
    values.set(key, raw === "" ? parameter.default : valueOf(key, parameter, raw, special[key]));
  }
}

/** What an option has beyond its table. */
export interface ReadingRules {
  /** Readers of the parameters that have one, by key. */
  readonly special?: Readonly<Record<string, SpecialReader>>;
  /** Looks at what is there before values are read. @throws OptionError */
  readonly check?: (given: ReadonlyMap<string, string>) => void;
  /** Faults of the PCI block come before all others, not after them. */
  readonly pciFirst?: boolean;
}

/**
 * Reads the option value `text` by `table`. Of several faults the one reported is the original's: syntax, what is missing,
 * values. @throws OptionError, or ContextError above one for the PCI block
 */
export function readOption(
  table: ParameterTable,
  text: string,
  { special = {}, check, pciFirst = false }: ReadingRules = {},
): ReadOption {
  const given = readPairs(text, (key) => Object.hasOwn(table, key) ? table[key].kind !== "word" : undefined);
  const values = new Map<string, unknown>();
  if (pciFirst) readValues(table, given, special, "pci", values);
  requirePresent(table, given);
  check?.(given);
  readValues(table, given, special, "own", values);
  readValues(table, given, special, "bucket", values);
  if (!pciFirst) readValues(table, given, special, "pci", values);
  const fields: Record<string, unknown> = {};
  const buckets: Buckets = {};
  for (const key in table) {
    const parameter = table[key];
    const value = values.get(key);
    if (value === undefined) continue;
    if (parameter.bucket !== undefined) {
      const [bucket, member] = parameter.bucket;
      (buckets[bucket] ??= {})[member] = value as bigint;
      const limiter = limiterOf(buckets);
      if (limiter !== undefined) fields.rate_limiter_config = limiter;
    } else if (parameter.field !== null) {
      fields[parameter.field] = value;
    }
  }
  return { fields, given };
}

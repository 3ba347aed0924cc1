/**
 * AML terms: objects, methods, statements and expressions.
 *
 * L2, any isolate; pure. Operands are encoded AML; a name is given as `path(...)`. Source: ACPI 6.5 §20.2.5, §19.6.
 */
import { type Aml, byte, encodeLength, integer, path, withPackageLength } from "./encode.ts";

// Objects ----------------------------------------------------------------------------------------------------------

/** `Name (name, value)` */
export const name = (objectName: string, value: Aml): Aml => "\x08" + path(objectName) + value;

/** `Device (name) { … }` */
export const device = (objectName: string, ...body: readonly Aml[]): Aml =>
  "\x5b\x82" + withPackageLength(path(objectName) + body.join(""));

export interface MethodOptions {
  /** Number of arguments, 0 to 7. */
  readonly args?: number;
  readonly serialized?: boolean;
}

/** `Method (name, args, Serialized|NotSerialized) { … }` */
export const method = (objectName: string, options: MethodOptions, ...body: readonly Aml[]): Aml => {
  const flags = (options.args ?? 0) | (options.serialized ? 1 << 3 : 0);
  return "\x14" + withPackageLength(path(objectName) + byte(flags) + body.join(""));
};

/** `Mutex (name, 0)` */
export const mutex = (objectName: string): Aml => "\x5b\x01" + path(objectName) + "\x00";

const SYSTEM_MEMORY: Aml = "\x00";

/** `OperationRegion (name, SystemMemory, address, length)` */
export const memoryRegion = (objectName: string, address: number, lengthBytes: number): Aml =>
  "\x5b\x80" + path(objectName) + SYSTEM_MEMORY + integer(address) + integer(lengthBytes);

/** Access widths of a field. */
export const FIELD_ACCESS = { byte: 1, dword: 3 } as const;
/** What a write does to the bits around the field. */
export const FIELD_UPDATE = { preserve: 0, writeAsZeros: 2 << 5 } as const;

/** A named field and its width in bits; without name, bits to skip. */
export type FieldElement = readonly [fieldName: string | null, bits: number];

/** `Field (region, access, NoLock, update) { … }` */
export const field = (
  region: string,
  access: keyof typeof FIELD_ACCESS,
  update: keyof typeof FIELD_UPDATE,
  ...elements: readonly FieldElement[]
): Aml => {
  const flags = FIELD_ACCESS[access] | FIELD_UPDATE[update];
  const list = elements.map(([fieldName, bits]) =>
    (fieldName === null ? "\x00" : path(fieldName)) + encodeLength(bits)
  );
  return "\x5b\x81" + withPackageLength(path(region) + byte(flags) + list.join(""));
};

// Operands ---------------------------------------------------------------------------------------------------------

/** `Arg0` … `Arg6` */
export const arg = (n: number): Aml => byte(0x68 + n);
/** `Local0` … `Local7` */
export const local = (n: number): Aml => byte(0x60 + n);
export const ZERO: Aml = "\x00";
export const ONE: Aml = "\x01";

/** A method call. */
export const call = (methodPath: string, ...args: readonly Aml[]): Aml => path(methodPath) + args.join("");

// Expressions with a target ----------------------------------------------------------------------------------------

export const add = (a: Aml, b: Aml, target: Aml): Aml => "\x72" + a + b + target;
export const subtract = (a: Aml, b: Aml, target: Aml): Aml => "\x74" + a + b + target;
export const shiftLeft = (value: Aml, count: Aml, target: Aml): Aml => "\x79" + value + count + target;
export const and = (a: Aml, b: Aml, target: Aml): Aml => "\x7b" + a + b + target;

export const equal = (a: Aml, b: Aml): Aml => "\x93" + a + b;
export const lessThan = (a: Aml, b: Aml): Aml => "\x95" + a + b;

// Statements -------------------------------------------------------------------------------------------------------

export const store = (value: Aml, target: Aml): Aml => "\x70" + value + target;
export const ifThen = (condition: Aml, ...body: readonly Aml[]): Aml =>
  "\xa0" + withPackageLength(condition + body.join(""));
export const whileLoop = (condition: Aml, ...body: readonly Aml[]): Aml =>
  "\xa2" + withPackageLength(condition + body.join(""));
export const returnValue = (value: Aml): Aml => "\xa4" + value;
export const notify = (object: Aml, value: Aml): Aml => "\x86" + object + value;

const FOREVER = "\xff\xff";
export const acquire = (mutexPath: string): Aml => "\x5b\x23" + path(mutexPath) + FOREVER;
export const release = (mutexPath: string): Aml => "\x5b\x27" + path(mutexPath);

/** `CreateQWordField (source, byteOffset, name)` */
export const createQwordField = (source: Aml, byteOffset: number, fieldName: string): Aml =>
  "\x8f" + source + integer(byteOffset) + path(fieldName);
/** `CreateDWordField (source, byteOffset, name)` */
export const createDwordField = (source: Aml, byteOffset: number, fieldName: string): Aml =>
  "\x8a" + source + integer(byteOffset) + path(fieldName);

/**
 * AML terms: objects, methods, statements and expressions.
 *
 * L2, any isolate; pure. Operands are encoded AML; a name is given as `path(...)`. Source: ACPI 6.5 §20.2.5, §19.6.
 */
import { type Aml, concat, encodeLength, integer, op, path, withPackageLength } from "./encode.ts";

// Objects ----------------------------------------------------------------------------------------------------------

/** `Name (name, value)` */
export const name = (objectName: string, value: Aml): Aml => concat(op(0x08), path(objectName), value);

/** `Device (name) { … }` */
export const device = (objectName: string, ...body: readonly Aml[]): Aml =>
  concat(op(0x5b, 0x82), withPackageLength(concat(path(objectName), ...body)));

export interface MethodOptions {
  /** Number of arguments, 0 to 7. */
  readonly args?: number;
  readonly serialized?: boolean;
}

/** `Method (name, args, Serialized|NotSerialized) { … }` */
export const method = (objectName: string, options: MethodOptions, ...body: readonly Aml[]): Aml => {
  const flags = (options.args ?? 0) | (options.serialized ? 1 << 3 : 0);
  return concat(op(0x14), withPackageLength(concat(path(objectName), op(flags), ...body)));
};

/** `Mutex (name, 0)` */
export const mutex = (objectName: string): Aml => concat(op(0x5b, 0x01), path(objectName), op(0));

const SYSTEM_MEMORY = 0;

/** `OperationRegion (name, SystemMemory, address, length)` */
export const memoryRegion = (objectName: string, address: number, lengthBytes: number): Aml =>
  concat(op(0x5b, 0x80), path(objectName), op(SYSTEM_MEMORY), integer(address), integer(lengthBytes));

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
): Aml =>
  concat(
    op(0x5b, 0x81),
    withPackageLength(concat(
      path(region),
      op(FIELD_ACCESS[access] | FIELD_UPDATE[update]),
      ...elements.map(([fieldName, bits]) =>
        concat(fieldName === null ? op(0) : path(fieldName), encodeLength(bits))
      ),
    )),
  );

// Operands ---------------------------------------------------------------------------------------------------------

/** `Arg0` … `Arg6` */
export const arg = (n: number): Aml => op(0x68 + n);
/** `Local0` … `Local7` */
export const local = (n: number): Aml => op(0x60 + n);
export const ZERO: Aml = op(0);
export const ONE: Aml = op(1);

/** A method call. */
export const call = (methodPath: string, ...args: readonly Aml[]): Aml => concat(path(methodPath), ...args);

// Expressions with a target ----------------------------------------------------------------------------------------

export const add = (a: Aml, b: Aml, target: Aml): Aml => concat(op(0x72), a, b, target);
export const subtract = (a: Aml, b: Aml, target: Aml): Aml => concat(op(0x74), a, b, target);
export const shiftLeft = (value: Aml, count: Aml, target: Aml): Aml => concat(op(0x79), value, count, target);
export const and = (a: Aml, b: Aml, target: Aml): Aml => concat(op(0x7b), a, b, target);

export const equal = (a: Aml, b: Aml): Aml => concat(op(0x93), a, b);
export const lessThan = (a: Aml, b: Aml): Aml => concat(op(0x95), a, b);

// Statements -------------------------------------------------------------------------------------------------------

export const store = (value: Aml, target: Aml): Aml => concat(op(0x70), value, target);
export const ifThen = (condition: Aml, ...body: readonly Aml[]): Aml =>
  concat(op(0xa0), withPackageLength(concat(condition, ...body)));
export const whileLoop = (condition: Aml, ...body: readonly Aml[]): Aml =>
  concat(op(0xa2), withPackageLength(concat(condition, ...body)));
export const returnValue = (value: Aml): Aml => concat(op(0xa4), value);
export const notify = (object: Aml, value: Aml): Aml => concat(op(0x86), object, value);

const FOREVER = 0xff;
export const acquire = (mutexPath: string): Aml =>
  concat(op(0x5b, 0x23), path(mutexPath), op(FOREVER, FOREVER));
export const release = (mutexPath: string): Aml => concat(op(0x5b, 0x27), path(mutexPath));

/** `CreateQWordField (source, byteOffset, name)` */
export const createQwordField = (source: Aml, byteOffset: number, fieldName: string): Aml =>
  concat(op(0x8f), source, integer(byteOffset), path(fieldName));
/** `CreateDWordField (source, byteOffset, name)` */
export const createDwordField = (source: Aml, byteOffset: number, fieldName: string): Aml =>
  concat(op(0x8a), source, integer(byteOffset), path(fieldName));

/**
 * What describes the parameters of one command-line option: kind, target field, default, help.
 *
 * L0, types only: no zod, so that reading a command line does not load it. The tables are checked against the
 * configuration types by the compiler, their defaults against the zod schemas by a test.
 * Source: spec/cli.md §1, §2.
 */

/** Kinds read into a `number`. */
export type NumberKind = "u8" | "u16" | "u32" | "i32" | "usize" | "hex16";
/** Kinds read into a `bigint`; a size takes a suffix K, M or G. */
export type BigKind = "u64" | "size";
/** Kinds read into a `string`. */
export type TextKind = "string" | "mac" | "ip";
/** Lists of numbers, by the kind of their entries. */
export type NumberListKind = "u16List" | "u32List" | "i32List" | "usizeList";

/** The two halves of each `key@value` entry, by the field they fill. */
export interface TupleShape {
  readonly key: readonly [field: string, kind: "u16" | "u32" | "string"];
  readonly value: readonly [field: string, kind: "u8" | "u32" | "i32" | NumberListKind];
}

/** How a value is written on the command line. */
export type ValueKind =
  | { readonly kind: "toggle" | NumberKind | BigKind | TextKind | NumberListKind | "stringList" }
  /** Command-line word to variant; case is ignored unless `exactCase`. */
  | {
    readonly kind: "choice";
    readonly choices: Readonly<Record<string, string>>;
    readonly exactCase?: true;
  }
  | { readonly kind: "tuples"; readonly tuple: TupleShape }
  /** A bare word, without value. */
  | { readonly kind: "word" }
  /** Has a reader of its own; an empty value counts as not given. */
  | { readonly kind: "special" };

/** What all parameters have. */
export interface ParameterFacts {
  /** What stands for the value in help texts; taken from the kind when absent. */
  readonly value?: string;
  /** Message when the parameter is missing. */
  readonly missing?: string;
  /** Accepted, but not shown in help, completion and documentation. */
  readonly hidden?: true;
  /** Value when absent. */
  readonly default?: string | number | bigint | boolean;
  /** Limit of the value's length in UTF-8 bytes, and the message beyond it. */
  readonly longest?: readonly [bytes: number, message: string];
  /** Part of a token bucket: which bucket, which member. */
  readonly bucket?: readonly ["bandwidth" | "ops", "size" | "one_time_burst" | "refill_time"];
  /** Belongs to the block all PCI devices share, which has an error text of its own. */
  readonly pci?: true;
  /** One line for the documentation. */
  readonly doc: string;
}

/** One parameter. `field` is where the value goes; null when it is read and not kept. */
export type Parameter = ValueKind & ParameterFacts & { readonly field: string | null };

/** Parameters of one option by key, in the order of the fields in JSON. */
export type ParameterTable = Readonly<Record<string, Parameter>>;

type KindFor<V> = [V] extends [boolean] ? { readonly kind: "toggle"; readonly default?: boolean }
  : [V] extends [bigint] ? { readonly kind: BigKind; readonly default?: bigint }
  : [V] extends [number] ? { readonly kind: NumberKind; readonly default?: number }
  : [V] extends [string] ? (string extends V ? { readonly kind: TextKind; readonly default?: string }
      : { readonly kind: "choice"; readonly choices: Readonly<Record<string, V>>; readonly default?: V })
  : [V] extends [readonly (infer E)[]] ? ([E] extends [number] ? { readonly kind: NumberListKind }
      : [E] extends [string] ? { readonly kind: "stringList" }
      : {
        readonly kind: "tuples";
        readonly tuple: {
          readonly key: readonly [keyof E & string, "u16" | "u32" | "string"];
          readonly value: readonly [keyof E & string, "u8" | "u32" | "i32" | NumberListKind];
        };
      })
  : never;

/** A parameter whose kind fits the type of the field of `T` it fills. */
export type ParameterOf<T> =
  | {
    [F in keyof T & string]:
      & ParameterFacts
      & { readonly field: F }
      & (
        | KindFor<NonNullable<T[F]>>
        | { readonly kind: "special" | "u64" }
      );
  }[keyof T & string]
  | ParameterFacts & ValueKind & { readonly field: null };

/** `table`, checked against the configuration structure `T`. */
export function parametersOf<T>() {
  return <const P extends Readonly<Record<string, ParameterOf<T>>>>(table: P): ParameterTable =>
    table as unknown as ParameterTable;
}

/**
 * JSON text into a configuration or request, with every error text and position the original gives.
 *
 * L0, main isolate. Source: spec/observed.md "JSON", spec/rest-api.md §1.2.
 */
import type * as z from "zod";
import {
  type Buffered,
  enter,
  MAX_DEPTH,
  nextFound,
  readBuffered,
  takeGroup,
  unknownVariant,
} from "./buffered.ts";
import { expectedNames, JsonFault, SyntaxText } from "./fault.ts";
import { type FieldPlan, type Plan, planOf, type StructPlan } from "./plan.ts";
import { type Found, takeDescriptor, takeScalar, wrongType } from "./scalar.ts";
import { Byte, END, Scanner } from "./scanner.ts";

/** A value, or why there is none. */
export type JsonResult<T> =
  | { readonly ok: true; readonly value: T }
  | {
    readonly ok: false;
    /** Text for the error body, with line and column. */
    readonly message: string;
    /** Where in the value, as `disks[1].queue_size`; empty for the whole. */
    readonly fieldPath: string;
  };

/**
 * Reads one JSON value of `schema` from `text`, which is UTF-8 bytes or a string. Absent optional fields are
 * undefined, defaults are filled in, unknown fields are skipped. Throws nothing for any input.
 */
export function readJson<S extends z.ZodType>(schema: S, text: Uint8Array | string): JsonResult<z.infer<S>> {
  const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
  const scanner = new Scanner(bytes);
  try {
    const value = new Reader(scanner).read(planOf(schema), MAX_DEPTH);
    if (scanner.skipSpace() !== END) throw scanner.peekFault(SyntaxText.trailingCharacters);
    return { ok: true, value: value as z.infer<S> };
  } catch (thrown) {
    if (thrown instanceof JsonFault) {
      return { ok: false, message: thrown.message, fieldPath: thrown.fieldPath };
    }
    throw thrown;
  }
}

/** Recursion follows the schema and is limited by MAX_DEPTH. */
class Reader {
  constructor(private readonly scanner: Scanner) {}

  read(plan: Plan, depth: number): unknown {
    switch (plan.kind) {
      case "scalar":
        // A malformed MAC address is reported where its structure ends, all else where the value ends.
        if (plan.scalar === "mac") return takeScalar("mac", false, this.string());
        return this.settled(() => takeScalar(plan.scalar, plan.big, nextFound(this.scanner)));
      case "descriptor":
        return this.settled(() => takeDescriptor(nextFound(this.scanner)));
      case "enum":
        return this.variant(plan.variants, depth);
      case "list":
        return this.list(plan.item, depth);
      case "struct":
        return this.struct(plan, depth);
      case "record":
      case "tagged":
        throw new TypeError("Records and tagged unions are written only");
    }
  }

  /** Runs `take` and gives a fault without a position the present one. */
  private settled<T>(take: () => T): T {
    try {
      return take();
    } catch (thrown) {
      throw thrown instanceof JsonFault ? this.scanner.settle(thrown) : thrown;
    }
  }

  private string(): Found {
    const found = nextFound(this.scanner);
    if (found.kind !== "string") throw this.scanner.settle(wrongType(found, "a string"));
    return found;
  }

  private variant(variants: readonly string[], depth: number): string {
    const { scanner } = this;
    const byte = scanner.skipSpace();
    if (byte === Byte.QUOTE) return this.knownVariant(scanner.string(), variants);
    if (byte !== Byte.OBJECT_OPEN) {
      throw scanner.peekFault(byte === END ? SyntaxText.eofValue : SyntaxText.expectedValue);
    }
    enter(scanner, depth);
    scanner.index++;
    const key = scanner.nextKey(true);
    if (key === undefined) throw scanner.peekFault(SyntaxText.expectedValue);
    const name = this.knownVariant(key, variants);
    scanner.colon();
    this.settled(() => {
      const found = nextFound(this.scanner);
      if (found.kind !== "null") throw wrongType(found, "unit");
    });
    const end = scanner.skipSpace();
    if (end === END) throw scanner.fault(SyntaxText.eofObject);
    if (end !== Byte.OBJECT_CLOSE) throw scanner.fault(SyntaxText.expectedValue);
    scanner.index++;
    return name;
  }

  private knownVariant(name: string, variants: readonly string[]): string {
    if (!variants.includes(name)) throw this.scanner.settle(unknownVariant(name, variants));
    return name;
  }

  /** Consumes the opening byte, reads the inside, then the end; a fault inside comes before one at the end. */
  private enclosed<T>(depth: number, close: () => void, inside: (depth: number) => T): T {
    const below = enter(this.scanner, depth);
    this.scanner.index++;
    let value: T;
    try {
      value = inside(below);
    } catch (thrown) {
      if (!(thrown instanceof JsonFault)) throw thrown;
      if (thrown.line !== 0) throw thrown;
      try {
        close();
      } catch (endFault) {
        if (!(endFault instanceof JsonFault)) throw endFault;
      }
      throw this.scanner.settle(thrown);
    }
    close();
    return value;
  }

  private list(item: Plan, depth: number): unknown[] {
    const { scanner } = this;
    return this.settled(() => {
      if (scanner.skipSpace() !== Byte.LIST_OPEN) throw wrongType(nextFound(this.scanner), "a sequence");
      return this.enclosed(depth, () => scanner.closeList(), (below) => {
        const items: unknown[] = [];
        while (scanner.nextElement(items.length === 0)) {
          items.push(this.located(items.length, () => this.read(item, below)));
        }
        return items;
      });
    });
  }

  private located<T>(part: string | number, read: () => T): T {
    try {
      return read();
    } catch (thrown) {
      if (thrown instanceof JsonFault) thrown.path.unshift(part);
      throw thrown;
    }
  }

  private struct(plan: StructPlan, depth: number): unknown {
    const { scanner } = this;
    return this.settled(() => {
      const byte = scanner.skipSpace();
      if (byte === Byte.OBJECT_OPEN) {
        return this.enclosed(
          depth,
          () => scanner.closeObject(),
          (below) =>
            plan.groups.length === 0 ? this.plainFields(plan, below) : this.flattenedFields(plan, below),
        );
      }
      if (byte === Byte.LIST_OPEN && plan.groups.length === 0) {
        return this.enclosed(depth, () => scanner.closeList(), (below) => this.sequence(plan, below));
      }
      throw wrongType(nextFound(this.scanner), `struct ${plan.wireName}`);
    });
  }

  private value(field: FieldPlan, depth: number): unknown {
    return this.located(field.name, () => {
      if (field.optional && this.scanner.skipSpace() === Byte.n) {
        this.scanner.null();
        return undefined;
      }
      return this.read(field.plan, depth);
    });
  }

  private plainFields(plan: StructPlan, depth: number): unknown {
    const { scanner } = this;
    const seen = new Map<FieldPlan, unknown>();
    for (let first = true;; first = false) {
      const key = scanner.nextKey(first);
      if (key === undefined) break;
      const field = plan.byKey.get(key);
      if (field === undefined) {
        if (plan.denyUnknown) {
          throw new JsonFault(`unknown field \`${key}\`, ${expectedNames(plan.fields.map((f) => f.name))}`);
        }
        scanner.colon();
        scanner.skipValue();
        continue;
      }
      if (seen.has(field)) throw new JsonFault(`duplicate field \`${field.name}\``);
      scanner.colon();
      seen.set(field, this.value(field, depth));
    }
    return assemble(plan, seen);
  }

  private flattenedFields(plan: StructPlan, depth: number): unknown {
    const { scanner } = this;
    const seen = new Map<FieldPlan, unknown>();
    const rest: [string, Buffered][] = [];
    for (let first = true;; first = false) {
      const key = scanner.nextKey(first);
      if (key === undefined) break;
      const field = plan.byKey.get(key);
      if (field === undefined) {
        scanner.colon();
        rest.push([key, readBuffered(scanner, depth)]);
        continue;
      }
      if (seen.has(field)) throw new JsonFault(`duplicate field \`${field.name}\``);
      scanner.colon();
      seen.set(field, this.value(field, depth));
    }
    const value = assemble(plan, seen);
    for (const group of plan.groups) takeGroup(group, rest, value);
    return value;
  }

  private sequence(plan: StructPlan, depth: number): unknown {
    const seen = new Map<FieldPlan, unknown>();
    for (const [index, field] of plan.fields.entries()) {
      if (this.scanner.nextElement(index === 0)) {
        seen.set(field, this.value(field, depth));
      } else if (field.requiredInSequence || (!field.optional && field.makeDefault === undefined)) {
        const count = plan.fields.length;
        const elements = count === 1 ? "1 element" : `${count} elements`;
        throw new JsonFault(`invalid length ${index}, expected struct ${plan.wireName} with ${elements}`);
      }
    }
    return assemble(plan, seen);
  }
}

/** Own fields in declaration order, absent ones by default; throws `JsonFault` for a required one. */
function assemble(plan: StructPlan, seen: ReadonlyMap<FieldPlan, unknown>): Record<string, unknown> {
  const value: Record<string, unknown> = {};
  for (const field of plan.fields) {
    if (field.group >= 0) continue;
    if (seen.has(field)) {
      const read = seen.get(field);
      if (read !== undefined) value[field.name] = read;
    } else if (field.makeDefault !== undefined) {
      value[field.name] = field.makeDefault();
    } else if (!field.optional) {
      throw new JsonFault(`missing field \`${field.name}\``);
    }
  }
  return value;
}

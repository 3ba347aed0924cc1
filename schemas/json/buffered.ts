/**
 * Values of flattened structures: read whole before their types are known, then taken by the group they
 * belong to.
 *
 * L0, main isolate. Source: spec/observed.md "JSON"; positions of their errors are those of the structure's end.
 */
import { expectedNames, JsonFault, SyntaxText } from "./fault.ts";
import type { FieldPlan, Plan } from "./plan.ts";
import { type Found, takeDescriptor, takeScalar, wrongType, wrongValue } from "./scalar.ts";
import { Byte, END, isDigit, type Scanner } from "./scanner.ts";

/** A whole value in memory. Objects keep every entry in order, duplicates included. */
export type Buffered =
  | Exclude<Found, { readonly kind: "list" } | { readonly kind: "object" }>
  | { readonly kind: "list"; readonly items: readonly Buffered[] }
  | { readonly kind: "object"; readonly entries: readonly (readonly [string, Buffered])[] };

/** Levels of nesting the reader follows. */
export const MAX_DEPTH = 128;

/** Enters one level; `depth` is the level left. Gives the depth inside. */
export function enter(scanner: Scanner, depth: number): number {
  if (depth <= 1) throw scanner.peekFault(SyntaxText.recursionLimit);
  return depth - 1;
}

/** The next value: scalars are consumed, lists and objects are left at their opening byte. */
export function nextFound(scanner: Scanner): Found {
  const byte = scanner.skipSpace();
  if (byte === Byte.n) {
    scanner.null();
    return { kind: "null" };
  }
  if (byte === Byte.t || byte === Byte.f) return { kind: "boolean", value: scanner.boolean() };
  if (byte === Byte.QUOTE) return { kind: "string", value: scanner.string() };
  if (byte === Byte.MINUS || isDigit(byte)) return scanner.number();
  if (byte === Byte.LIST_OPEN) return { kind: "list" };
  if (byte === Byte.OBJECT_OPEN) return { kind: "object" };
  throw scanner.peekFault(byte === END ? SyntaxText.eofValue : SyntaxText.expectedValue);
}

/** Reads any value; `depth` is the number of levels left. */
export function readBuffered(scanner: Scanner, depth: number): Buffered {
  const found = nextFound(scanner);
  if (found.kind === "list") {
    const inside = enter(scanner, depth);
    scanner.index++;
    const items: Buffered[] = [];
    while (scanner.nextElement(items.length === 0)) items.push(readBuffered(scanner, inside));
    scanner.closeList();
    return { kind: "list", items };
  }
  if (found.kind === "object") {
    const inside = enter(scanner, depth);
    scanner.index++;
    const entries: [string, Buffered][] = [];
    for (;;) {
      const key = scanner.nextKey(entries.length === 0);
      if (key === undefined) break;
      scanner.colon();
      entries.push([key, readBuffered(scanner, inside)]);
    }
    scanner.closeObject();
    return { kind: "object", entries };
  }
  return found;
}

/**
 * Fills the fields of one flattened group from the entries left by the structure's own fields, in the order
 * they came. Throws `JsonFault` without a position.
 */
export function takeGroup(
  group: ReadonlyMap<string, FieldPlan>,
  entries: readonly (readonly [string, Buffered])[],
  target: Record<string, unknown>,
): void {
  const seen = new Set<string>();
  for (const [key, value] of entries) {
    const field = group.get(key);
    if (field === undefined) continue;
    if (seen.has(key)) throw new JsonFault(`duplicate field \`${key}\``);
    seen.add(key);
    try {
      if (!field.optional || value.kind !== "null") target[key] = takeBuffered(field.plan, value);
    } catch (thrown) {
      if (thrown instanceof JsonFault) thrown.path.unshift(key);
      throw thrown;
    }
  }
  for (const field of group.values()) {
    if (seen.has(field.name) || field.optional) continue;
    if (field.makeDefault === undefined) throw new JsonFault(`missing field \`${field.name}\``);
    target[field.name] = field.makeDefault();
  }
}

function takeBuffered(plan: Plan, value: Buffered): unknown {
  switch (plan.kind) {
    case "scalar":
      return takeScalar(plan.scalar, plan.big, value);
    case "descriptor":
      return takeDescriptor(value);
    case "enum":
      return takeVariant(plan.variants, value);
    default:
      throw new TypeError("Flattened fields are scalars and enumerations only");
  }
}

function takeVariant(variants: readonly string[], value: Buffered): string {
  let name: string;
  let content: Buffered | undefined;
  if (value.kind === "object") {
    if (value.entries.length !== 1) throw wrongValue(value, "map with a single key");
    [name, content] = value.entries[0];
  } else if (value.kind === "string") {
    name = value.value;
  } else {
    throw wrongType(value, "string or map");
  }
  if (!variants.includes(name)) throw unknownVariant(name, variants);
  const isUnit = content === undefined || content.kind === "null" ||
    (content.kind === "object" && content.entries.length === 0);
  if (!isUnit) throw wrongType(content!, "unit");
  return name;
}

/** Fault without a position: a name that is none of `variants`. */
export function unknownVariant(name: string, variants: readonly string[]): JsonFault {
  return new JsonFault(`unknown variant \`${name}\`, ${expectedNames(variants)}`);
}

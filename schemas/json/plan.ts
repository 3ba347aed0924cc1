/**
 * A zod schema boiled down to what reading and writing JSON need; made once per schema, on first use.
 *
 * L0, main isolate.
 */
import type * as z from "zod";
import { type ScalarName, type StructTraits, traitsOf } from "@schemas/primitives.ts";

/** One field of a structure. */
export interface FieldPlan {
  readonly name: string;
  readonly plan: Plan;
  /** Absent or `null` reads as undefined. */
  readonly optional: boolean;
  /** Value when absent; undefined for required and optional fields. */
  readonly makeDefault: (() => unknown) | undefined;
  /** Index of the flattened group the field belongs to, −1 for the structure's own fields. */
  readonly group: number;
  /** Must be there when the structure is given by position. */
  readonly requiredInSequence: boolean;
  readonly omitFalse: boolean;
  readonly nullWhenAbsent: boolean;
}

/** A structure. */
export interface StructPlan {
  readonly kind: "struct";
  /** Name in messages. */
  readonly wireName: string;
  readonly fields: readonly FieldPlan[];
  /** Own fields by key and alias. */
  readonly byKey: ReadonlyMap<string, FieldPlan>;
  /** Fields of each flattened group, by key. */
  readonly groups: readonly ReadonlyMap<string, FieldPlan>[];
  readonly denyUnknown: boolean;
}

/** How one schema is read and written. */
export type Plan =
  | { readonly kind: "scalar"; readonly scalar: ScalarName; readonly big: boolean }
  | { readonly kind: "enum"; readonly variants: readonly string[] }
  | { readonly kind: "descriptor" }
  | { readonly kind: "list"; readonly item: Plan }
  | { readonly kind: "record"; readonly value: Plan }
  /** One of several one-field structures, told apart by the field's name. Written only. */
  | { readonly kind: "tagged"; readonly byTag: ReadonlyMap<string, Plan> }
  | StructPlan;

const plans = new WeakMap<z.core.$ZodType, Plan>();

/** The plan of `schema`. Throws TypeError for a zod type the wire format has no form for. */
export function planOf(schema: z.core.$ZodType): Plan {
  let plan = plans.get(schema);
  if (plan === undefined) {
    plan = makePlan(schema);
    plans.set(schema, plan);
  }
  return plan;
}

function makePlan(schema: z.core.$ZodType): Plan {
  const traits = traitsOf(schema);
  const def = (schema as z.core.$ZodTypes)._zod.def;
  switch (traits?.kind) {
    case "scalar":
      return { kind: "scalar", scalar: traits.scalar, big: traits.big };
    case "descriptor":
      return { kind: "descriptor" };
    case "enum":
      return { kind: "enum", variants: Object.values((def as z.core.$ZodEnumDef).entries).map(String) };
    case "struct":
      return structPlan((def as z.core.$ZodObjectDef).shape, traits);
    case "named":
    case undefined:
      break;
  }
  switch (def.type) {
    case "array":
      return { kind: "list", item: planOf(def.element) };
    case "record":
      return { kind: "record", value: planOf(def.valueType) };
    case "union":
      return taggedPlan(def.options);
    default:
      throw new TypeError(`Cannot plan a schema of type "${def.type}"`);
  }
}

function structPlan(shape: z.core.$ZodShape, traits: StructTraits): StructPlan {
  const groupOf = new Map<string, number>();
  traits.flattened?.forEach((names, group) => names.forEach((name) => groupOf.set(name, group)));
  const fields = Object.entries(shape).map(([name, schema]): FieldPlan => {
    const def = (schema as z.core.$ZodTypes)._zod.def;
    const wrapped = def.type === "optional" || def.type === "default" ? def.innerType : schema;
    return {
      name,
      plan: planOf(wrapped),
      optional: def.type === "optional",
      // The definition's getter makes a new value at each access.
      makeDefault: def.type === "default" ? () => def.defaultValue : undefined,
      group: groupOf.get(name) ?? -1,
      requiredInSequence: traits.requiredInSequence?.includes(name) ?? false,
      omitFalse: traits.omitFalse?.includes(name) ?? false,
      nullWhenAbsent: traits.nullWhenAbsent?.includes(name) ?? false,
    };
  });
  const byKey = new Map<string, FieldPlan>();
  const groups = (traits.flattened ?? []).map(() => new Map<string, FieldPlan>());
  for (const field of fields) {
    if (field.group >= 0) {
      groups[field.group].set(field.name, field);
      continue;
    }
    byKey.set(field.name, field);
    for (const alias of traits.aliases?.[field.name] ?? []) byKey.set(alias, field);
  }
  return {
    kind: "struct",
    wireName: traits.wireName ?? traits.name,
    fields,
    byKey,
    groups,
    denyUnknown: traits.denyUnknown ?? false,
  };
}

function taggedPlan(options: readonly z.core.$ZodType[]): Plan {
  const byTag = new Map<string, Plan>();
  for (const option of options) {
    const plan = planOf(option);
    if (plan.kind !== "struct" || plan.fields.length !== 1) {
      throw new TypeError("Cannot plan a union of anything but one-field structures");
    }
    byTag.set(plan.fields[0].name, plan.fields[0].plan);
  }
  return { kind: "tagged", byTag };
}

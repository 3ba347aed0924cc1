/**
 * Answers of the VMM as the types of the schemas: 64-bit numbers exact.
 *
 * L6, main isolate; loads the schemas, so import it when the first such answer comes. Lenient, because a newer server may say
 * more: unknown fields are kept, missing ones are undefined.
 */
import type { z } from "zod";
import { VmCountersSchema, VmInfoSchema } from "@schemas/api/vm_info.ts";
import { type Plan, planOf } from "@schemas/json/plan.ts";
import { isRecord, readObject } from "./answer_error.ts";

/** JSON with integers beyond 2^53 as `bigint`. */
function parseExact(text: string): unknown {
  // The third argument of a reviver holds the number's own digits (ECMAScript "JSON.parse source text access").
  const revive = (_key: string, value: unknown, context?: { readonly source?: string }): unknown => {
    if (typeof value !== "number" || Number.isSafeInteger(value)) return value;
    return /^-?\d+$/.test(context?.source ?? "") ? BigInt(context!.source!) : value;
  };
  return JSON.parse(text, revive as (key: string, value: unknown) => unknown);
}

function typed(plan: Plan, value: unknown): unknown {
  if (value === null || value === undefined) return undefined;
  switch (plan.kind) {
    case "scalar":
      return plan.big && (typeof value === "number" || typeof value === "bigint") ? BigInt(value) : value;
    case "list":
      return Array.isArray(value) ? value.map((item) => typed(plan.item, item)) : value;
    case "record":
      return isRecord(value) ? mapped(value, () => plan.value) : value;
    case "tagged":
      return isRecord(value) ? mapped(value, (tag) => plan.byTag.get(tag)) : value;
    case "struct":
      return isRecord(value)
        ? mapped(value, (name) => plan.byKey.get(name)?.plan ?? groupField(plan, name))
        : value;
    case "enum":
    case "descriptor":
      return value;
  }
}

function groupField(plan: Extract<Plan, { kind: "struct" }>, name: string): Plan | undefined {
  return plan.fields.find((field) => field.name === name)?.plan;
}

/** `record` with each value typed by its plan; fields that are `null` are left out. */
function mapped(
  record: Record<string, unknown>,
  planFor: (name: string) => Plan | undefined,
): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(record)) {
    const plan = planFor(name);
    const item = plan === undefined ? value : typed(plan, value);
    if (item !== undefined) result[name] = item;
  }
  return result;
}

function readAnswer<S extends z.ZodType>(schema: S, text: string): z.infer<S> {
  return typed(planOf(schema), readObject(text, parseExact)) as z.infer<S>;
}

/** Answer of `vm.info`. @throws AnswerError */
export const readVmInfo = (text: string): z.infer<typeof VmInfoSchema> => readAnswer(VmInfoSchema, text);

/** Answer of `vm.counters`. @throws AnswerError */
export const readVmCounters = (text: string): z.infer<typeof VmCountersSchema> =>
  readAnswer(VmCountersSchema, text);

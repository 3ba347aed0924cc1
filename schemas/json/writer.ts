/**
 * Configurations and answers as compact JSON, byte for byte as the original writes them.
 *
 * L0, main isolate. Source: spec/schemas.md "Conventions"; order and omission as the original's `vm.info`.
 */
import type * as z from "zod";
import { type FieldPlan, type Plan, planOf } from "./plan.ts";

type Write = (value: unknown) => string;

const writers = new WeakMap<Plan, Write>();

/**
 * Writes `value`, which must have the type of `schema`: fields in schema order, absent optional fields left out,
 * 64-bit integers exact. Throws nothing for a value of the type.
 */
export function writeJson<S extends z.ZodType>(schema: S, value: z.infer<S>): string {
  return writerOf(planOf(schema))(value);
}

function writerOf(plan: Plan): Write {
  let write = writers.get(plan);
  if (write === undefined) {
    write = makeWriter(plan);
    writers.set(plan, write);
  }
  return write;
}

// Escaping is rare and asking for it costs more than looking for what needs it.
const NEEDS_ESCAPE = /["\\\p{Cc}\p{Cs}]/u;
const writeText: Write = (value) => NEEDS_ESCAPE.test(value as string) ? JSON.stringify(value) : `"${value}"`;
const writePlain: Write = (value) => `${value}`;

function makeWriter(plan: Plan): Write {
  switch (plan.kind) {
    case "scalar":
      return plan.scalar === "string" || plan.scalar === "path" || plan.scalar === "mac" ||
          plan.scalar === "ip"
        ? writeText
        : writePlain;
    case "enum":
      return writeText;
    case "descriptor":
      return writePlain;
    case "list": {
      const write = writerOf(plan.item);
      return (value) => {
        let text = "";
        for (const item of value as readonly unknown[]) text += (text === "" ? "" : ",") + write(item);
        return `[${text}]`;
      };
    }
    case "record": {
      const write = writerOf(plan.value);
      return (value) => {
        const record = value as Readonly<Record<string, unknown>>;
        let text = "";
        for (const key of Object.keys(record)) {
          text += `${text === "" ? "" : ","}${writeText(key)}:${write(record[key])}`;
        }
        return `{${text}}`;
      };
    }
    case "tagged": {
      const byTag = new Map(Array.from(plan.byTag, ([tag, inner]) => [tag, writerOf(inner)]));
      return (value) => {
        const record = value as Readonly<Record<string, unknown>>;
        const [tag] = Object.keys(record);
        return `{"${tag}":${byTag.get(tag)!(record[tag])}}`;
      };
    }
    case "struct":
      return structWriter(plan.fields);
  }
}

function structWriter(fields: readonly FieldPlan[]): Write {
  const steps = fields.map((field) => ({ ...field, key: `"${field.name}":`, write: writerOf(field.plan) }));
  return (value) => {
    const record = value as Readonly<Record<string, unknown>>;
    let text = "";
    for (const { name, key, write, omitFalse, nullWhenAbsent } of steps) {
      const item = record[name];
      if (item === undefined ? !nullWhenAbsent : omitFalse && item === false) continue;
      text += `${text === "" ? "" : ","}${key}${item === undefined ? "null" : write(item)}`;
    }
    return `{${text}}`;
  };
}

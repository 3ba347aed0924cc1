/**
 * Configurations and answers as compact JSON, byte for byte as the original writes them.
 *
 * L0, main isolate. Source: spec/schemas.md "Conventions"; order and omission as the original's `vm.info`.
 */
import type { z } from "zod";
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

const writeText: Write = (value) => JSON.stringify(value);
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
      return (value) => `[${(value as readonly unknown[]).map(write).join(",")}]`;
    }
    case "record": {
      const write = writerOf(plan.value);
      return (value) =>
        `{${
          Object.entries(value as object).map(([key, item]) => `${JSON.stringify(key)}:${write(item)}`).join(
            ",",
          )
        }}`;
    }
    case "tagged": {
      const byTag = new Map(Array.from(plan.byTag, ([tag, inner]) => [tag, writerOf(inner)]));
      return (value) => {
        const [tag, inner] = Object.entries(value as object)[0];
        return `{"${tag}":${byTag.get(tag)!(inner)}}`;
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

/**
 * An OpenAPI document reduced to the facts that generated clients depend on, one per line, to compare documents.
 *
 * L0, pure. Source: OpenAPI Specification 3.0.3.
 */
import type { JsonObject, JsonValue } from "./openapi.ts";

/** Facts by place: `schemas/DiskConfig/properties/path/type` → `string`. */
export type OpenApiFacts = Record<string, boolean | number | string>;

/** What stands beside each other in a property and matters. */
const SCHEMA_KEYS = [
  "type",
  "format",
  "default",
  "minimum",
  "maximum",
  "minLength",
  "nullable",
  "deprecated",
  "additionalProperties",
] as const;

/** The facts of `document`, sorted by place. */
export function factsOf(document: JsonObject): OpenApiFacts {
  const facts: OpenApiFacts = {};
  for (const [path, methods] of entriesOf(document.paths)) {
    for (const [method, operation] of entriesOf(methods)) {
      operationFacts(facts, `paths${path}/${method}`, operation as JsonObject);
    }
  }
  for (const [name, schema] of entriesOf((document.components as JsonObject).schemas)) {
    schemaFacts(facts, `schemas/${name}`, schema as JsonObject);
  }
  return Object.fromEntries(Object.entries(facts).sort(([a], [b]) => a < b ? -1 : 1));
}

const entriesOf = (value: JsonValue | undefined) => Object.entries((value ?? {}) as JsonObject);

function operationFacts(facts: OpenApiFacts, at: string, operation: JsonObject): void {
  if (operation.operationId !== undefined) facts[`${at}/operationId`] = operation.operationId as string;
  const request = operation.requestBody as JsonObject | undefined;
  if (request !== undefined) {
    facts[`${at}/request`] = contentName(request);
    facts[`${at}/request/required`] = request.required === true;
  }
  for (const [status, response] of entriesOf(operation.responses)) {
    facts[`${at}/responses/${status}`] = contentName(response as JsonObject);
  }
}

/** Component name of the JSON contents, empty when there are none. */
function contentName({ content }: JsonObject): string {
  const schema = ((content as JsonObject | undefined)?.["application/json"] as JsonObject | undefined)
    ?.schema;
  return schema === undefined ? "" : referenceName(schema as JsonObject) ?? "inline";
}

/** Component a schema refers to, plainly or as the only part of `allOf`. */
function referenceName(schema: JsonObject): string | undefined {
  const [part] = (schema.allOf as JsonObject[] | undefined) ?? [schema];
  return (part.$ref as string | undefined)?.split("/").pop();
}

function schemaFacts(facts: OpenApiFacts, at: string, schema: JsonObject): void {
  const reference = referenceName(schema);
  if (reference !== undefined) facts[`${at}/is`] = reference;
  for (const key of SCHEMA_KEYS) {
    const value = schema[key];
    if (value === undefined) continue;
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      schemaFacts(facts, `${at}/${key}`, value);
    } else {
      facts[`${at}/${key}`] = typeof value === "object" ? JSON.stringify(value) : value;
    }
  }
  for (const name of (schema.required ?? []) as string[]) facts[`${at}/required/${name}`] = true;
  for (const name of (schema.enum ?? []) as string[]) facts[`${at}/enum/${name}`] = true;
  for (const [name, property] of entriesOf(schema.properties)) {
    schemaFacts(facts, `${at}/properties/${name}`, property as JsonObject);
  }
  if (schema.items !== undefined) schemaFacts(facts, `${at}/items`, schema.items as JsonObject);
  for (const [index, option] of ((schema.oneOf ?? []) as JsonObject[]).entries()) {
    schemaFacts(facts, `${at}/oneOf/${index}`, option);
  }
}

/** One difference between two documents; undefined stands for "not there". */
export interface OpenApiDifference {
  readonly at: string;
  readonly theirs: boolean | number | string | undefined;
  readonly ours: boolean | number | string | undefined;
}

/** Every place at which the two differ, sorted. */
export function compareFacts(theirs: OpenApiFacts, ours: OpenApiFacts): OpenApiDifference[] {
  const places = [...new Set([...Object.keys(theirs), ...Object.keys(ours)])].sort();
  return places.filter((at) => theirs[at] !== ours[at]).map((at) => ({
    at,
    theirs: theirs[at],
    ours: ours[at],
  }));
}

/** A difference that is meant, with its reason. */
export interface OpenApiDeviation {
  /** Place, `*` standing for any one part of it and a final `**` for all below. */
  readonly at: string;
  /** Values on both sides where the reason holds for those only; undefined stands for "not there". */
  readonly theirs?: boolean | number | string | undefined;
  readonly ours?: boolean | number | string | undefined;
  readonly reason: string;
}

/** True when `deviation` speaks of `difference`. */
export function covers(deviation: OpenApiDeviation, difference: OpenApiDifference): boolean {
  if ("theirs" in deviation && deviation.theirs !== difference.theirs) return false;
  if ("ours" in deviation && deviation.ours !== difference.ours) return false;
  const pattern = deviation.at.split("/");
  const place = difference.at.split("/");
  const open = pattern.at(-1) === "**";
  if (open ? place.length < pattern.length - 1 : place.length !== pattern.length) return false;
  return pattern.every((part, index) => part === "**" || part === "*" || part === place[index]);
}

/** What `deviations` leave unexplained, and which of them explain nothing any more. */
export function judge(
  differences: readonly OpenApiDifference[],
  deviations: readonly OpenApiDeviation[],
): { readonly unexplained: OpenApiDifference[]; readonly stale: OpenApiDeviation[] } {
  return {
    unexplained: differences.filter((difference) => !deviations.some((known) => covers(known, difference))),
    stale: deviations.filter((known) => !differences.some((difference) => covers(known, difference))),
  };
}

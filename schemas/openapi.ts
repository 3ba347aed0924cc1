/**
 * The OpenAPI 3.0 document, generated from the endpoint table and the schemas.
 *
 * L0, main isolate; made when asked for. Source: OpenAPI Specification 3.0.3.
 */
import type * as z from "zod";
import { type Endpoint, ENDPOINTS, type FailureStatus } from "./api/endpoints.ts";
import { type ScalarName, type StructTraits, traitsOf } from "./primitives.ts";

/** Anything JSON can say. */
export type JsonValue = null | boolean | number | string | JsonValue[] | JsonObject;
/** A JSON object. */
export interface JsonObject {
  [key: string]: JsonValue;
}

/** Revision of the API, as the original counts it. */
const DOCUMENT_VERSION = "0.3.0";

const FAILURE_TEXTS: Readonly<Record<FailureStatus, string>> = {
  400: "The request or the configuration is not valid",
  404: "The VM, the device or the path does not exist",
  409: "The identifier or device path is taken",
  429: "The guest has not released a CPU yet",
  500: "The operation failed, or the VM's state does not allow it",
};

const ERROR_COMPONENT = "ErrorMessages";
/** Where the named schemas are. */
const COMPONENTS = "#/components/schemas/";

/** The whole document, a new object at each call. */
export function openApiDocument(): JsonObject {
  const components = new Components();
  const paths: JsonObject = {};
  for (const endpoint of ENDPOINTS) {
    paths[`/${endpoint.operation}`] = { [endpoint.method.toLowerCase()]: operation(endpoint, components) };
  }
  return {
    openapi: "3.0.3",
    info: {
      title: "Nephos API",
      description: "Manage one virtual machine over a local HTTP socket.",
      license: { name: "Apache 2.0", url: "http://www.apache.org/licenses/LICENSE-2.0.html" },
      version: DOCUMENT_VERSION,
    },
    servers: [{ url: "http://localhost/api/v1" }],
    paths,
    components: { schemas: components.schemas() },
  };
}

function operation(endpoint: Endpoint, components: Components): JsonObject {
  const responses: JsonObject = {};
  const success: JsonObject = { description: "Done" };
  if (endpoint.response !== undefined) success.content = content(components.reference(endpoint.response));
  responses[endpoint.successStatus] = success;
  if (endpoint.coldStatus !== undefined) {
    responses[endpoint.coldStatus] = {
      description: "Done in the configuration of the VM, which is not booted",
    };
  }
  for (const status of endpoint.failures) {
    responses[status] = {
      description: FAILURE_TEXTS[status],
      content: content({ $ref: COMPONENTS + ERROR_COMPONENT }),
    };
  }
  const result: JsonObject = { summary: endpoint.summary, responses };
  if (endpoint.operationId !== undefined) result.operationId = endpoint.operationId;
  if (endpoint.request !== undefined) {
    result.requestBody = { content: content(components.reference(endpoint.request)), required: true };
  }
  return result;
}

const content = (schema: JsonObject): JsonObject => ({ "application/json": { schema } });

/**
 * An integer from `minimum` to 2^`bits`−1. The format is the smaller of the two that OpenAPI 3.0 defines which holds it:
 * generators take one they do not know, as "uint64", for 32 bits. No signed format holds all of 64 bits.
 */
function unsigned(bits: 8 | 16 | 32 | 64, minimum = 0): JsonObject {
  const format = bits < 32 ? "int32" : "int64";
  return { type: "integer", format, minimum, ...(bits < 64 ? { maximum: 2 ** bits - 1 } : {}) };
}

/** Type of each scalar. */
const SCALARS: Readonly<Record<ScalarName, JsonObject>> = {
  u8: unsigned(8),
  u16: unsigned(16),
  u32: unsigned(32),
  u64: unsigned(64),
  usize: unsigned(64),
  i32: { type: "integer", format: "int32" },
  i64: { type: "integer", format: "int64" },
  "nonzero u32": unsigned(32, 1),
  "nonzero u64": unsigned(64, 1),
  boolean: { type: "boolean" },
  string: { type: "string" },
  path: { type: "string" },
  mac: { type: "string" },
  ip: { type: "string" },
};

/** The named schemas met so far. */
class Components {
  private readonly byName = new Map<string, JsonObject>([
    [ERROR_COMPONENT, {
      type: "array",
      items: { type: "string" },
      description: "Messages from the outermost to the root cause",
    }],
  ]);

  /** All of them, by name in alphabetical order. */
  schemas(): JsonObject {
    return Object.fromEntries([...this.byName].sort(([a], [b]) => a < b ? -1 : 1));
  }

  /** `schema` as it stands in a property: a reference where it has a name, written out where it has none. */
  reference(schema: z.core.$ZodType): JsonObject {
    const traits = traitsOf(schema);
    switch (traits?.kind) {
      case "scalar":
        return { ...SCALARS[traits.scalar] };
      case "descriptor":
        return { type: "integer", format: "int32" };
      case "enum":
        return this.component(traits.name, () => ({ type: "string", enum: variantsOf(schema) }));
      case "struct":
        return this.component(traits.name, () => this.structure(schema, traits));
      case "named":
        return this.component(traits.name, () => this.plain(schema));
      case undefined:
        return this.plain(schema);
    }
  }

  private component(name: string, make: () => JsonObject): JsonObject {
    if (!this.byName.has(name)) {
      // The place is taken first: a schema may refer to itself.
      this.byName.set(name, {});
      this.byName.set(name, make());
    }
    return { $ref: COMPONENTS + name };
  }

  /** The component `reference` leads to; undefined when it is none. */
  private target({ $ref }: JsonObject): JsonObject | undefined {
    return typeof $ref === "string" ? this.byName.get($ref.slice(COMPONENTS.length)) : undefined;
  }

  private plain(schema: z.core.$ZodType): JsonObject {
    const def = (schema as z.core.$ZodTypes)._zod.def;
    switch (def.type) {
      case "array":
        return { type: "array", items: this.reference(def.element) };
      case "record":
        return { type: "object", additionalProperties: this.reference(def.valueType) };
      case "union":
        return { oneOf: def.options.map((option) => this.reference(option)) };
      default:
        throw new TypeError(`Cannot describe a schema of type "${def.type}"`);
    }
  }

  private structure(schema: z.core.$ZodType, traits: StructTraits): JsonObject {
    const required: string[] = [];
    const properties: JsonObject = {};
    const { shape } = (schema as z.core.$ZodObject)._zod.def;
    for (const [name, field] of Object.entries(shape)) {
      const def = (field as z.core.$ZodTypes)._zod.def;
      if (def.type !== "optional" && def.type !== "default") required.push(name);
      properties[name] = this.property(field, traits.nullWhenAbsent?.includes(name) ?? false);
      for (const alias of traits.aliases?.[name] ?? []) {
        properties[alias] = { ...properties[name] as JsonObject, deprecated: true };
      }
    }
    const result: JsonObject = { type: "object", properties };
    if (required.length > 0) result.required = required;
    if (traits.denyUnknown) result.additionalProperties = false;
    return result;
  }

  private property(field: z.core.$ZodType, nullable: boolean): JsonObject {
    const def = (field as z.core.$ZodTypes)._zod.def;
    const wrapped = def.type === "optional" || def.type === "default";
    const inner = wrapped ? def.innerType : field;
    const beside: JsonObject = { ...(inner as z.ZodType).meta() as JsonObject | undefined };
    // A reference to a structure stands for its own defaults.
    const isStructure = traitsOf(inner)?.kind === "struct";
    if (def.type === "default" && !isStructure) beside.default = plainNumber(def.defaultValue);
    const reference = this.reference(inner);
    // Beside a reference `nullable` has no effect: what is referred to has to take the null.
    if (nullable) Object.assign(this.target(reference) ?? beside, { nullable });
    if (Object.keys(beside).length === 0) return reference;
    // What stands beside a plain reference is ignored by readers of OpenAPI 3.0.
    return "$ref" in reference ? { allOf: [reference], ...beside } : { ...reference, ...beside };
  }
}

function variantsOf(schema: z.core.$ZodType): string[] {
  return Object.values((schema as z.core.$ZodEnum)._zod.def.entries).map(String);
}

/** Defaults are small: 64-bit ones are written as numbers. */
function plainNumber(value: unknown): JsonValue {
  return typeof value === "bigint" ? Number(value) : value as JsonValue;
}

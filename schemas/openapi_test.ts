import assert from "node:assert/strict";
import { ENDPOINTS } from "@schemas/api/endpoints.ts";
import { type JsonObject, type JsonValue, openApiDocument } from "@schemas/openapi.ts";
import { OPENAPI_DEVIATIONS } from "@schemas/openapi_deviations.ts";
import { compareFacts, covers, factsOf, judge } from "@schemas/openapi_facts.ts";
import golden from "@tests/golden/openapi_facts.json" with { type: "json" };

const document = openApiDocument();
const schemas = (document.components as JsonObject).schemas as Record<string, JsonObject>;

function* references(value: JsonValue): Generator<string> {
  if (typeof value !== "object" || value === null) return;
  for (const [key, part] of Object.entries(value)) {
    if (key === "$ref") yield part as string;
    else yield* references(part as JsonValue);
  }
}

Deno.test("openApiDocument() has every endpoint and no dangling reference", () => {
  assert.equal(ENDPOINTS.length, 31);
  assert.equal(new Set(ENDPOINTS.map(({ operation }) => operation)).size, 31);
  assert.deepEqual(
    Object.keys(document.paths as JsonObject),
    ENDPOINTS.map(({ operation }) => `/${operation}`),
  );
  for (const reference of references(document)) {
    assert.ok(reference.replace("#/components/schemas/", "") in schemas, reference);
  }
});

Deno.test("openApiDocument() describes a property with its real default and width", () => {
  const { queue_size, image_type, rate_limiter_config } = schemas.DiskConfig.properties as JsonObject;
  assert.deepEqual(queue_size, {
    type: "integer",
    format: "int32",
    minimum: 0,
    maximum: 65_535,
    default: 128,
  });
  assert.deepEqual(image_type, { allOf: [{ $ref: "#/components/schemas/ImageType" }], default: "Unknown" });
  assert.deepEqual(rate_limiter_config, { $ref: "#/components/schemas/RateLimiterConfig" });
  const { serial_number } = schemas.PlatformConfig.properties as JsonObject;
  assert.deepEqual(serial_number, { type: "string", deprecated: true });
  assert.deepEqual(schemas.VmResizeZone.required, ["id", "desired_ram"]);
});

Deno.test("openApiDocument() lets a null pass where one is written", () => {
  const { bandwidth } = schemas.RateLimiterConfig.properties as JsonObject;
  assert.deepEqual(bandwidth, {
    allOf: [{ $ref: "#/components/schemas/TokenBucket" }],
    description: "Limit in bytes",
  });
  const { nullable, type, properties } = schemas.TokenBucket;
  assert.deepEqual({ nullable, type }, { nullable: true, type: "object" });
  const { description: _, ...burst } = (properties as Record<string, JsonObject>).one_time_burst;
  assert.deepEqual(burst, { type: "integer", format: "int64", minimum: 0, nullable: true });
});

Deno.test("openApiDocument() uses formats every generator of clients knows, wide enough for the values", () => {
  const limits = { int32: 2 ** 31 - 1, int64: 2 ** 63 };
  const check = (value: JsonValue): void => {
    if (typeof value !== "object" || value === null) return;
    const { type, format, maximum } = value as JsonObject;
    if (type === "integer") {
      assert.ok(format === "int32" || format === "int64", JSON.stringify(value));
      if (maximum !== undefined) assert.ok(maximum as number <= limits[format], JSON.stringify(value));
    }
    Object.values(value).forEach(check);
  };
  check(document);
  const { size } = schemas.MemoryConfig.properties as Record<string, JsonObject>;
  assert.equal(size.format, "int64");
});

Deno.test("openApiDocument() is plain JSON", () => {
  assert.deepEqual(JSON.parse(JSON.stringify(document)), document);
});

Deno.test("the document differs from the original's as listed and in nothing else", () => {
  const { unexplained, stale } = judge(compareFacts(golden, factsOf(document)), OPENAPI_DEVIATIONS);
  assert.deepEqual({ unexplained, stale }, { unexplained: [], stale: [] });
});

Deno.test("judge() reports what nobody explained and explanations of nothing", () => {
  const differences = compareFacts({ a: 1, "b/x": "t" }, { "b/x": "u", c: true });
  assert.deepEqual(differences, [
    { at: "a", theirs: 1, ours: undefined },
    { at: "b/x", theirs: "t", ours: "u" },
    { at: "c", theirs: undefined, ours: true },
  ]);
  const stale = { at: "d", reason: "gone" };
  const judged = judge(differences, [{ at: "b/*", reason: "r" }, { at: "a", theirs: 1, reason: "r" }, stale]);
  assert.deepEqual(judged, { unexplained: [differences[2]], stale: [stale] });
});

Deno.test("covers() compares parts of a place, and values where given", () => {
  const difference = { at: "schemas/A/properties/x/format", theirs: "int64", ours: "uint64" };
  assert.equal(covers({ at: "schemas/*/properties/*/format", reason: "" }, difference), true);
  assert.equal(covers({ at: "schemas/A/**", reason: "" }, difference), true);
  assert.equal(covers({ at: "schemas/*/properties/*", reason: "" }, difference), false);
  assert.equal(covers({ at: "schemas/A/**", ours: "uint32", reason: "" }, difference), false);
  assert.equal(covers({ at: "schemas/A/**", theirs: undefined, reason: "" }, difference), false);
});

import assert from "node:assert/strict";
import { ENDPOINTS } from "@schemas/api/endpoints.ts";
import { bodySchema, type OperationWithBody } from "./body_reader.ts";
import { ROUTES } from "./routes.ts";

Deno.test("routes and the documented endpoints are the same, with the same bodies", () => {
  const names = ROUTES.map(({ operation }) => operation).sort();
  assert.deepEqual(ENDPOINTS.map(({ operation }) => operation).sort(), names);
  for (const route of ROUTES) {
    const endpoint = ENDPOINTS.find(({ operation }) => operation === route.operation)!;
    assert.equal(route.method, endpoint.method, route.operation);
    assert.equal(route.body === "required", endpoint.request !== undefined, route.operation);
    if (endpoint.request !== undefined) {
      assert.equal(bodySchema(route.operation as OperationWithBody), endpoint.request, route.operation);
    }
  }
});

import assert from "node:assert/strict";
import { chainedError } from "./errors.ts";

Deno.test("chainedError() nests causes in the order of the messages", () => {
  const error = chainedError("acpi", "outer", "middle", "inner");
  assert.equal(error.message, "outer");
  assert.equal(error.condition, "acpi");
  assert.deepEqual(error.chain(), ["outer", "middle", "inner"]);
  assert.equal(((error.cause as Error).cause as Error).message, "inner");
});

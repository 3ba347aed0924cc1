import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { NEPHOS_VERSION } from "./version.ts";

Deno.test("NEPHOS_VERSION is the version of deno.json", () => {
  const project = JSON.parse(readFileSync(new URL("../../deno.json", import.meta.url), "utf8"));
  assert.equal(project.version, NEPHOS_VERSION);
});

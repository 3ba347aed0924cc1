import assert from "node:assert/strict";
import { WORKER_ROLES, workerUrl } from "./worker_url.ts";

Deno.test("workerUrl() names the TypeScript entry point beside the machine code in the source tree", () => {
  assert.equal(
    workerUrl("vcpu", "file:///opt/nephos/src/base/worker_url.ts").href,
    "file:///opt/nephos/src/machine/vcpu_worker.ts",
  );
  assert.match(workerUrl("io").href, /\/src\/machine\/io_worker\.ts$/);
});

Deno.test("workerUrl() names a script in the same directory in a bundle, from the entry or a chunk", () => {
  assert.equal(workerUrl("io", "file:///c/app-1/main.js").href, "file:///c/app-1/io_worker.js");
  assert.equal(workerUrl("vcpu", "file:///c/app-1/chunk-ABC.js").href, "file:///c/app-1/vcpu_worker.js");
});

Deno.test("WORKER_ROLES has no duplicates", () => {
  assert.equal(new Set(WORKER_ROLES).size, WORKER_ROLES.length);
});

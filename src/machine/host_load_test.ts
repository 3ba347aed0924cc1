import assert from "node:assert/strict";
import { runningThreads } from "./host_load.ts";

Deno.test("runningThreads() takes the number before the slash", () => {
  const line = new TextEncoder().encode("0.34 0.74 0.80 12/345 6789\n");
  assert.equal(runningThreads(line, line.length), 12);
  assert.ok(Number.isNaN(runningThreads(line, 0)));
  assert.ok(!(runningThreads(line, 3) <= 2));
});

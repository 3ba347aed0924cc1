import assert from "node:assert/strict";
import { sourceLines } from "./source_lines.ts";

Deno.test("sourceLines() tells the line of each mapped line, and of no other", () => {
  const map = JSON.stringify({
    version: 3,
    sources: ["../../src/a.ts", "../../src/b.ts"],
    sourcesContent: [],
    names: [],
    // Line 2 of the bundle, indented: line 3 of a.ts; line 4: line 1 of b.ts.
    mappings: ";EAEA;;ACFA",
  });
  assert.deepEqual(sourceLines(map, "// by the bundler\n  f();\n\ng();\n", "/top/dist/bundle", "/top"), {
    sources: ["src/a.ts", "src/b.ts"],
    lines: [-1, 0, 0, 3, -1, 0, 1, 1, -1, 0],
  });
});

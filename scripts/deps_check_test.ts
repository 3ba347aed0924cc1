import assert from "node:assert/strict";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { moduleGraph, toEdges } from "./deps_check.ts";
import { violation } from "./layers.ts";
import { ROOT } from "./source_tree.ts";

const url = (path: string) => pathToFileURL(join(ROOT, path)).href;

Deno.test("toEdges() sees type-only and package imports and names what does not resolve", () => {
  const { edges, errors } = toEdges({
    modules: [
      {
        specifier: url("src/bus/a.ts"),
        dependencies: [
          { specifier: "@vmm/machine/vm.ts", type: { specifier: url("src/machine/vm.ts") } },
          { specifier: "zod", code: { specifier: "npm:/zod@4.6.7" } },
          { specifier: "@vmm/gone", code: { error: "not there" } },
        ],
      },
      { specifier: url("src/machine/vm.ts"), error: "Module not found." },
    ],
  });
  assert.deepEqual(edges, [{ from: "src/bus/a.ts", to: "src/machine/vm.ts" }, {
    from: "src/bus/a.ts",
    to: "npm:zod",
  }]);
  assert.match(violation(edges[0]) ?? "", /layer 3 may not import layer 5/);
  assert.equal(errors.length, 2);
  assert.match(errors[1], /Imported by src\/bus\/a\.ts/);
});

Deno.test("moduleGraph() finds the imports of a real file", async () => {
  const { edges, errors } = toEdges(await moduleGraph(["scripts/layers.ts"]));
  assert.deepEqual(errors, []);
  assert.ok(edges.some(({ from, to }) => from === "scripts/layers.ts" && to === "scripts/source_tree.ts"));
});

import assert from "node:assert/strict";
import { join } from "node:path";
import { CLI_DOCUMENT, cliDocument } from "./docs_cli.ts";
import { ROOT } from "./source_tree.ts";

Deno.test("docs/cli.md is what scripts/docs_cli.ts writes", async () => {
  assert.equal(await Deno.readTextFile(join(ROOT, CLI_DOCUMENT)), cliDocument(), "run scripts/docs_cli.ts");
});

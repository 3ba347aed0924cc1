import assert from "node:assert/strict";
import { checkDocument, checkTestTables, undocumented } from "./docs_check.ts";

Deno.test("checkDocument() finds dead links and leaves others alone", async () => {
  const text =
    "[a](../README.md) [b](../no_such_file.md#part) [c](https://example.org/x) [d](#here) [e](adr)\n";
  assert.deepEqual(await checkDocument("docs/testing.md", text), [
    "docs/testing.md: dead link to ../no_such_file.md#part",
  ]);
});

Deno.test("checkDocument() limits the architecture page and folder READMEs", async () => {
  assert.deepEqual(await checkDocument("ARCHITECTURE.md", "x\n".repeat(200)), []);
  assert.deepEqual(await checkDocument("ARCHITECTURE.md", "x\n".repeat(201)), [
    "ARCHITECTURE.md: 201 lines, the limit is 200",
  ]);
  assert.deepEqual(await checkDocument("src/bus/README.md", "x\n".repeat(11)), [
    "src/bus/README.md: 11 lines, the limit for a folder's README is 10",
  ]);
  assert.deepEqual(await checkDocument("scripts/guest/README.md", "x\n".repeat(40)), []);
});

Deno.test("checkTestTables() finds files and names that are not there", async () => {
  const missing = ["no", "such", "name"].join(" ");
  const text = `Not a table: \`tests/none.ts\`
| a | \`scripts/docs_check_test.ts\` "finds dead links", "${missing}" |
| b | \`tests/none_test.ts\` "x" |
| c | later |
`;
  assert.deepEqual(await checkTestTables("page", text), [
    `page: no test "${missing}" in the file named before it`,
    "page: no file tests/none_test.ts",
  ]);
});

Deno.test("undocumented() finds what `deno doc --lint` finds without a word about it", () => {
  const lint = [
    "error[private-type-ref]: public type 'A' references private type 'B'",
    "  --> /a.ts:1:2",
    "error[missing-jsdoc]: exported symbol is missing JSDoc documentation",
    "   --> /b.ts:3:4",
    "    | ",
    "",
  ];
  assert.deepEqual(undocumented(lint.join("\n")), ["/b.ts:3:4: exported by mod.ts, without documentation"]);
});

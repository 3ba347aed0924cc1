import assert from "node:assert/strict";
import { checkFile } from "./limits_check.ts";

const OPENING = "/** Says what it is. */\n";

Deno.test("checkFile() allows 600 lines of code and 800 of tests, and no more", () => {
  const lines = (count: number) => OPENING + "const a = 1;\n".repeat(count - 1);
  assert.deepEqual(checkFile("src/bus/a.ts", lines(600)), []);
  assert.deepEqual(checkFile("src/bus/a.ts", lines(601)), ["src/bus/a.ts: 601 lines, the limit is 600"]);
  assert.deepEqual(checkFile("src/bus/a_test.ts", lines(800)), []);
  assert.deepEqual(checkFile("src/bus/a_test.ts", lines(801)), [
    "src/bus/a_test.ts: 801 lines, the limit is 800",
  ]);
});

Deno.test("checkFile() looks at names", () => {
  assert.deepEqual(checkFile("src/bus/ioBus.ts", OPENING), [
    "src/bus/ioBus.ts: the file name is not snake_case",
  ]);
  assert.deepEqual(checkFile("src/utils/a.ts", OPENING), [
    `src/utils/a.ts: "utils" says nothing about the contents`,
  ]);
  assert.deepEqual(checkFile("src/bus/util_test.ts", ""), [
    `src/bus/util_test.ts: "util" says nothing about the contents`,
  ]);
});

Deno.test("checkFile() wants an opening comment and refuses default exports, barrels and deep imports", () => {
  assert.deepEqual(checkFile("src/bus/a.ts", "const a = 1;\n"), [
    "src/bus/a.ts: no opening /** … */ comment",
  ]);
  assert.deepEqual(checkFile("src/bus/a.ts", `${OPENING}export default 1;\n`), [
    "src/bus/a.ts: default export",
  ]);
  assert.deepEqual(checkFile("src/bus/a.ts", `${OPENING}export * from "./b.ts";\n`), [
    "src/bus/a.ts: re-exports everything (barrel file)",
  ]);
  assert.deepEqual(checkFile("src/bus/a.ts", `${OPENING}import { x } from "../../ffi/x.ts";\n`), [
    "src/bus/a.ts: relative import across two folders: use an alias",
  ]);
  assert.deepEqual(
    checkFile("src/bus/a.ts", `${OPENING}// export default\nimport { x } from "../x.ts";\n`),
    [],
  );
});

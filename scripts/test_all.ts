/**
 * Everything that must hold before a change lands: the checks, unit tests, the build, and the tests of the built program.
 *
 * `scripts/test` starts it. Goes on after a failure, so that one run shows all of them; the last line is the sum.
 * NEPHOS_TEST_BUDGET_MINUTES: no further test file is started after that time; files left out count as failed.
 *
 * @module
 */

import { join } from "node:path";
import { ROOT } from "./source_tree.ts";
import { add, denoTest, runFolders, summary } from "./test_runner.ts";

const CHECKS = ["fmt:check", "lint", "check", "deps", "audit", "limits", "abi", "docs"];
const NEEDS_BINARY = [
  "tests/conformance",
  "tests/consumers",
  "tests/integration",
  "tests/differential",
  "tests/guest",
];
const NOT_UNIT = [...NEEDS_BINARY, "tests/perf"];

const budget = Deno.env.get("NEPHOS_TEST_BUDGET_MINUTES");
const endMs = budget === undefined ? Infinity : Number(budget) * 60_000;
const binary = Deno.env.get("NEPHOS_BIN") ?? join(ROOT, "dist", "nephos");

let tally = add();
for (const check of CHECKS) tally = add(tally, await task(check));
heading("unit tests");
tally = add(tally, await denoTest(["--parallel", "--quiet", `--ignore=${NOT_UNIT.join(",")}`]));
const built = Deno.env.has("NEPHOS_BIN") ? add() : await task("build");
tally = add(tally, built);
if (built.failed > 0) console.error("The program was not built: the tests that need it are left out");
else {
  heading(`tests of ${binary}`);
  tally = add(tally, await runFolders(NEEDS_BINARY, { NEPHOS_BIN: binary }, endMs));
}
console.log(`\nTook ${Math.round(performance.now() / 1000)} s`);
console.log(summary(tally));
Deno.exit(tally.failed > 0 ? 1 : 0);

function heading(text: string): void {
  console.log(`\n== ${text}`);
}

/** Runs a task of deno.json; a failure counts as one failed test, success as none. */
async function task(name: string): Promise<ReturnType<typeof add>> {
  heading(name);
  const { success } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", name],
    cwd: ROOT,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "inherit",
    stderr: "inherit",
  }).spawn().status;
  return { ...add(), failed: success ? 0 : 1 };
}

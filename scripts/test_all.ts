/**
 * Everything that must hold before a change lands: the checks, unit tests, the build, and the tests of the built program.
 *
 * `scripts/test` starts it. Goes on after a failure, so that one run shows all of them; what failed is listed at the end,
 * also what passed at a second try (NEPHOS_TEST_RETRY=1 gives files one); the last line is the sum.
 * NEPHOS_TEST_BUDGET_MINUTES: no further test file is started after that time; files left out count as failed,
 * those that boot Linux as skipped.
 *
 * @module
 */

import { join } from "node:path";
import { ROOT } from "./source_tree.ts";
import { add, denoTest, type Report, runFolders, stopRuns, summary } from "./test_runner.ts";

const CHECKS = ["fmt:check", "lint", "check", "deps", "audit", "limits", "abi", "openapi", "docs"];
const NEEDS_BINARY = [
  "tests/conformance",
  "tests/consumers",
  "tests/integration",
  "tests/differential",
  "tests/guest",
];
const NOT_UNIT = [...NEEDS_BINARY, "tests/perf"];

const budget = Number(Deno.env.get("NEPHOS_TEST_BUDGET_MINUTES") ?? "Infinity");
if (!(budget > 0)) throw new RangeError("NEPHOS_TEST_BUDGET_MINUTES is not a number of minutes");
const endMs = budget * 60_000;
const binary = Deno.env.get("NEPHOS_BIN") ?? join(ROOT, "dist", "nephos");

let tally = add();
const notes: string[] = [];
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.addSignalListener(signal, () => stopRuns(`stopped by ${signal}`));
}
try {
  await runAll();
} catch (error) {
  console.error(error);
  count({ tally: { ...add(), failed: 1 }, notes: [`FAILED  the run broke off: ${error}`] });
}
console.log(`\nTook ${Math.round(performance.now() / 1000)} s`);
for (const note of notes) console.log(note);
console.log(summary(tally));
Deno.exit(tally.failed > 0 ? 1 : 0);

async function runAll(): Promise<void> {
  for (const check of CHECKS) count(await task(check));
  heading("unit tests");
  const units = await denoTest(["--parallel", "--quiet", `--ignore=${NOT_UNIT.join(",")}`]);
  count({ tally: units.tally, notes: units.failures.map((failure) => `FAILED  ${failure}`) });
  const built = Deno.env.has("NEPHOS_BIN") ? { tally: add(), notes: [] } : await task("build");
  count(built);
  if (built.tally.failed > 0) {
    console.error("The program was not built: the tests that need it are left out");
    return;
  }
  heading(`tests of ${binary}`);
  count(await runFolders(NEEDS_BINARY, { env: { NEPHOS_BIN: binary }, endMs }));
}

function count(report: Report): void {
  tally = add(tally, report.tally);
  notes.push(...report.notes);
}

function heading(text: string): void {
  console.log(`\n== ${text}`);
}

/** Runs a task of deno.json; a failure counts as one failed test, success as none. */
async function task(name: string): Promise<Report> {
  heading(name);
  const { success } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", name],
    cwd: ROOT,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "inherit",
    stderr: "inherit",
  }).spawn().status;
  return success
    ? { tally: add(), notes: [] }
    : { tally: { ...add(), failed: 1 }, notes: [`FAILED  deno task ${name}`] };
}

import assert from "node:assert/strict";
import { relative } from "node:path";
import { ROOT } from "./source_tree.ts";
import {
  add,
  denoTest,
  inOrder,
  judge,
  outcomeNotes,
  parseFailures,
  parseProgress,
  parseSummary,
  runFolders,
  summary,
  testFiles,
} from "./test_runner.ts";

const OUTPUT = `running 4 tests from ./tests/a_test.ts
a ... ok (2ms)
b (skipped: no usable /dev/kvm) ... ignored (0ms)
c ... FAILED (1s)
d ...
------- output -------
something
----- output end -----
d ... ok (12ms)
e ... `;

const FAILED_OUTPUT = `c ... FAILED (1s)

 ERRORS

c => ./tests/a_test.ts:1:6
error: AssertionError: no

 FAILURES 

c => ./tests/a_test.ts:1:6
./tests/b_test.ts (uncaught error)

FAILED | 3 passed | 2 failed (1s)
`;

Deno.test("parseSummary() reads every form of the summary line; the last one counts", () => {
  assert.deepEqual(parseSummary("x ... ok\n\nok | 12 passed | 0 failed | 2 ignored (3s)\n"), {
    passed: 12,
    failed: 0,
    skipped: 2,
  });
  assert.deepEqual(
    parseSummary("FAILED | 3 passed (4 steps) | 1 failed (1 step) | 5 filtered out (12ms)\n"),
    {
      passed: 3,
      failed: 1,
      skipped: 0,
    },
  );
  const coloured =
    "\x1b[32mok\x1b[0m | \x1b[32m2\x1b[0m passed | 0 failed (1s)\nok | 1 passed | 0 failed (1s)";
  assert.deepEqual(parseSummary(coloured), { passed: 1, failed: 0, skipped: 0 });
  assert.equal(parseSummary("error: No test modules found\n"), undefined);
});

Deno.test("parseSummary() takes no notice of test output that looks similar", () => {
  assert.equal(parseSummary("it prints ok | 7 passed | 0 failed\n"), undefined);
});

Deno.test("judge() counts a run that ended badly as a failure, whatever it printed", () => {
  assert.deepEqual(judge("", false), { passed: 0, failed: 1, skipped: 0 });
  assert.deepEqual(judge("ok | 3 passed | 0 failed (1s)\n", false), { passed: 3, failed: 1, skipped: 0 });
  assert.deepEqual(judge("FAILED | 3 passed | 2 failed (1s)\n", false), { passed: 3, failed: 2, skipped: 0 });
  assert.deepEqual(judge("ok | 3 passed | 0 failed (1s)\n", true), { passed: 3, failed: 0, skipped: 0 });
});

Deno.test("a run that broke off counts what it was through with, and knows what it was in", () => {
  assert.deepEqual(parseProgress(OUTPUT), { passed: 2, failed: 1, skipped: 1, current: "e" });
  assert.deepEqual(judge(OUTPUT, false), { passed: 2, failed: 1, skipped: 1 });
  assert.equal(parseProgress("x ... ok (1ms)\n\n").current, undefined);
});

Deno.test("parseFailures() reads the list of what failed", () => {
  assert.deepEqual(parseFailures(FAILED_OUTPUT), [
    "c => ./tests/a_test.ts:1:6",
    "./tests/b_test.ts (uncaught error)",
  ]);
  assert.deepEqual(parseFailures("x ... ok (1ms)\n"), []);
});

Deno.test("outcomeNotes() tells of both tries", () => {
  const good = { tally: { passed: 3, failed: 0, skipped: 0 }, failures: [], ended: false };
  const bad = {
    tally: { passed: 2, failed: 1, skipped: 0 },
    failures: ["c => ./a_test.ts:1:6"],
    ended: false,
  };
  assert.deepEqual(outcomeNotes("a_test.ts", good), []);
  assert.deepEqual(outcomeNotes("a_test.ts", bad), ["FAILED  c => ./a_test.ts:1:6"]);
  assert.deepEqual(outcomeNotes("a_test.ts", bad, good), [
    "PASSED AT THE SECOND TRY  a_test.ts (first try: 2 passed, 1 failed)",
    "    first try: c => ./a_test.ts:1:6",
  ]);
  assert.deepEqual(outcomeNotes("a_test.ts", bad, bad), [
    "FAILED TWICE  a_test.ts (first try: 2 passed, 1 failed, second try: 2 passed, 1 failed)",
    "    first try: c => ./a_test.ts:1:6",
    "    second try: c => ./a_test.ts:1:6",
  ]);
});

Deno.test("denoTest() ends a run that hangs, with everything it started, and says so", async () => {
  const folder = await Deno.makeTempDir({ prefix: "nephos-runner-" });
  try {
    const file = `${folder}/hang_test.ts`;
    await Deno.writeTextFile(
      file,
      `Deno.test("it hangs", async () => {
         const child = new Deno.Command("sleep", { args: ["3600"] }).spawn();
         Deno.writeTextFileSync(${JSON.stringify(`${folder}/pid`)}, String(child.pid));
         await child.status;
       });`,
    );
    const outcome = await denoTest([file], {}, 2_000);
    assert.deepEqual([outcome.ended, outcome.tally], [true, { passed: 0, failed: 1, skipped: 0 }]);
    assert.match(outcome.failures[0], /hang_test.ts: ended, it took longer than 2 s/);
    // A slow machine may not have come to start the child.
    const pid = await Deno.readTextFile(`${folder}/pid`).catch(() => undefined);
    const state = pid && await Deno.readTextFile(`/proc/${pid}/stat`).catch(() => undefined);
    assert.ok(!state || state.split(") ")[1].startsWith("Z"), `still running: ${state}`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("summary() is the last line of a run", () => {
  assert.equal(
    summary(add({ passed: 1, failed: 0, skipped: 0 }, { passed: 2, failed: 1, skipped: 0 })),
    "3 passed, 1 failed",
  );
  assert.equal(summary({ passed: 1, failed: 0, skipped: 4 }), "1 passed, 0 failed, 4 skipped");
});

Deno.test("testFiles() finds tests and bears with folders that are not there", async () => {
  assert.deepEqual(await testFiles(["tests/no_such_folder"]), []);
  assert.ok((await testFiles(["scripts"])).includes("scripts/test_runner_test.ts"));
});

Deno.test("inOrder() puts files that boot Linux last", () => {
  assert.deepEqual(inOrder(["a/linux_x_test.ts", "a/linux.ts", "b/a_test.ts", "b/my_linux_test.ts"]), [
    ...["a/linux.ts", "b/a_test.ts", "b/my_linux_test.ts"],
    "a/linux_x_test.ts",
  ]);
});

Deno.test("runFolders() leaves Linux out when little time is left, and says so", async () => {
  const directory = await Deno.makeTempDir({ prefix: "nephos-runner-" });
  const folder = relative(ROOT, directory);
  try {
    await Deno.writeTextFile(`${directory}/linux_a_test.ts`, `Deno.test("never", () => {});`);
    const { tally, notes } = await runFolders([folder], { endMs: performance.now() + 60_000 });
    assert.deepEqual(tally, { passed: 0, failed: 0, skipped: 1 });
    assert.deepEqual(notes, [
      `SKIPPED  ${folder}/linux_a_test.ts: not enough time is left on this machine`,
    ]);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

import assert from "node:assert/strict";
import { add, judge, parseSummary, summary, testFiles } from "./test_runner.ts";

Deno.test("parseSummary() reads every form of the summary line and adds several", () => {
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
  assert.deepEqual(parseSummary(coloured), { passed: 3, failed: 0, skipped: 0 });
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

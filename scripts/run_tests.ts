/**
 * Runs the tests in the given folders, file by file, and prints the sum: `deno task test:guest`, `test:conformance`.
 *
 * The built program is tested: `deno task build` first, or NEPHOS_BIN.
 *
 * @module
 */

import { add, type Report, runFolders, stopRuns, summary } from "./test_runner.ts";

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.addSignalListener(signal, () => stopRuns(`stopped by ${signal}`));
}
const { tally, notes } = await runFolders(Deno.args).catch((error): Report => {
  console.error(error);
  return { tally: { ...add(), failed: 1 }, notes: [`FAILED  the run broke off: ${error}`] };
});
for (const note of notes) console.log(note);
console.log(summary(tally));
Deno.exit(tally.failed > 0 ? 1 : 0);

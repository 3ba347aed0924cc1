/**
 * Runs the tests in the given folders, file by file, and prints the sum: `deno task test:guest`, `test:conformance`.
 *
 * The built program is tested: `deno task build` first, or NEPHOS_BIN.
 *
 * @module
 */

import { runFolders, summary } from "./test_runner.ts";

const tally = await runFolders(Deno.args);
console.log(summary(tally));
Deno.exit(tally.failed > 0 ? 1 : 0);

/**
 * Runs `deno test` and adds up what it reports.
 *
 * For `run_tests.ts` and `test_all.ts`.
 *
 * @module
 */

import { join } from "node:path";
import { ROOT } from "./source_tree.ts";

/** Numbers of tests. */
export interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

/** A file that takes longer has hung: the longest one boots a few dozen guests. */
const FILE_TIMEOUT_MS = 20 * 60_000;
/** What the last file may take beyond the end of the budget. */
const GRACE_MS = 2 * 60_000;

/** The sum of tallies. */
export function add(...tallies: Tally[]): Tally {
  const sum = { passed: 0, failed: 0, skipped: 0 };
  for (const tally of tallies) {
    sum.passed += tally.passed;
    sum.failed += tally.failed;
    sum.skipped += tally.skipped;
  }
  return sum;
}

/** The line that ends a test run. */
export function summary({ passed, failed, skipped }: Tally): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}

/**
 * Reads the summary lines out of `deno test` output, such as `ok | 12 passed (3 steps) | 0 failed | 2 ignored (3s)`.
 * Undefined if there is none: the run did not get to its end.
 */
export function parseSummary(output: string): Tally | undefined {
  // deno-lint-ignore no-control-regex -- colours
  const plain = output.replace(/\x1b\[[0-9;]*m/g, "");
  const tallies: Tally[] = [];
  for (const line of plain.split("\n")) {
    const match = /^(?:ok|FAILED) \| (\d+) passed\b.*\| (\d+) failed\b/.exec(line);
    if (!match) continue;
    const ignored = /\| (\d+) ignored\b/.exec(line);
    tallies.push({ passed: Number(match[1]), failed: Number(match[2]), skipped: Number(ignored?.[1] ?? 0) });
  }
  return tallies.length === 0 ? undefined : add(...tallies);
}

/** The result of a run from its output and exit code: never better than the exit code says. */
export function judge(output: string, success: boolean): Tally {
  const tally = parseSummary(output) ?? { passed: 0, failed: 0, skipped: 0 };
  if (!success && tally.failed === 0) tally.failed = 1;
  return tally;
}

/** Test files below the given folders (relative to the root), sorted; a folder that is not there has none. */
export async function testFiles(folders: string[]): Promise<string[]> {
  const found: string[] = [];
  const walk = async (folder: string): Promise<void> => {
    try {
      for await (const entry of Deno.readDir(join(ROOT, folder))) {
        if (entry.isDirectory) await walk(`${folder}/${entry.name}`);
        else if (entry.name.endsWith("_test.ts")) found.push(`${folder}/${entry.name}`);
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  };
  for (const folder of folders) await walk(folder);
  return found.sort();
}

/** Runs `deno test` with the given arguments, showing its output as it comes; kills it when it takes too long. */
export async function denoTest(
  args: string[],
  env: Record<string, string> = {},
  timeoutMs: number = FILE_TIMEOUT_MS,
): Promise<Tally> {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), timeoutMs);
  const child = new Deno.Command(Deno.execPath(), {
    args: ["test", "-A", "--no-check", ...args],
    cwd: ROOT,
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
    signal: abort.signal,
  }).spawn();
  let output = "";
  const decoder = new TextDecoder();
  for await (const bytes of child.stdout) {
    await Deno.stdout.write(bytes);
    output += decoder.decode(bytes, { stream: true });
  }
  const { success } = await child.status;
  clearTimeout(timer);
  if (abort.signal.aborted) {
    console.error(`\nKilled after ${Math.round(timeoutMs / 1000)} s: ${args.join(" ")}`);
  }
  return judge(output, success);
}

/**
 * Runs the test files below the folders one after another, each in a process of its own.
 *
 * @param endMs time (of `performance.now()`) after which no further file is started; those count as failed
 */
export async function runFolders(
  folders: string[],
  env: Record<string, string> = {},
  endMs: number = Infinity,
): Promise<Tally> {
  let sum = add();
  for (const file of await testFiles(folders)) {
    const leftMs = endMs - performance.now();
    if (leftMs <= 0) {
      console.error(`Out of time: ${file} was not run`);
      sum = add(sum, { passed: 0, failed: 1, skipped: 0 });
      continue;
    }
    sum = add(sum, await denoTest([file], env, Math.min(FILE_TIMEOUT_MS, leftMs + GRACE_MS)));
  }
  return sum;
}

/**
 * Runs `deno test` and adds up what it reports.
 *
 * For `run_tests.ts` and `test_all.ts`. A run that hangs is ended at its deadline, with all processes it started; a file that
 * failed may be run once more alone, and then both outcomes are told. NEPHOS_TEST_RETRY=1: do that.
 *
 * @module
 */

import { join } from "node:path";
import { endProcesses, MARK } from "./test_processes.ts";
import { ROOT } from "./source_tree.ts";

/** Numbers of tests. */
export interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

/** What came of one `deno test`. */
export interface Outcome {
  readonly tally: Tally;
  /** Names of failed tests with their place, as far as they are known. */
  readonly failures: readonly string[];
  /** The run was ended because it took too long. */
  readonly ended: boolean;
}

/** What came of several: the sum, and what is to be read at the end. */
export interface Report {
  readonly tally: Tally;
  readonly notes: readonly string[];
}

/** How runs behave; tests change it. */
export interface RunOptions {
  /** Environment of the tests. */
  readonly env?: Record<string, string>;
  /** Time of `performance.now()` after which no further file is started. */
  readonly endMs?: number;
  /** Longest time of one file. */
  readonly fileTimeoutMs?: number;
  /** Run a file that failed once more. */
  readonly retry?: boolean;
}

/** A file that takes longer has hung: the longest one boots a few dozen guests. */
const FILE_TIMEOUT_MS = 20 * 60_000;
/** What the last file may take beyond the end of the budget. */
const GRACE_MS = 2 * 60_000;
/** Boots Linux, slow where KVM emulates ring 0. Such files come last, and only while there is time for them. */
const LINUX_FILE = /(^|\/)linux_[^/]*_test\.ts$/;
/** The time a Linux file has to have before it; more when one was seen to take more. */
const LINUX_FILE_MS = 5 * 60_000;
/** How much longer the next Linux file may take than the longest so far. */
const LINUX_MARGIN = 1.5;
/** How long the output of a run that ended may stay open. */
const OUTPUT_GRACE_MS = 10_000;
/** Loaded before the tests of each file. */
const PRELOAD = "tests/framework/strict_close.ts";

/** Set when the run is to end at once: nothing further is started. */
let stopped: string | undefined;
const ends = new Set<() => void>();

/** Ends what runs, and starts nothing more; the sum counts the rest as failed. */
export function stopRuns(reason: string): void {
  stopped ??= reason;
  for (const end of ends) end();
}

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

function withoutColours(output: string): string {
  // deno-lint-ignore no-control-regex -- colours
  return output.replace(/\x1b\[[0-9;]*m/g, "");
}

/**
 * Reads the summary line out of `deno test` output, such as `ok | 12 passed (3 steps) | 0 failed | 2 ignored (3s)`: the
 * last one, tests may print others. Undefined if there is none: the run did not get to its end.
 */
export function parseSummary(output: string): Tally | undefined {
  let tally: Tally | undefined;
  for (const line of withoutColours(output).split("\n")) {
    const match = /^(?:ok|FAILED) \| (\d+) passed\b.*\| (\d+) failed\b/.exec(line);
    if (!match) continue;
    const ignored = /\| (\d+) ignored\b/.exec(line);
    tally = { passed: Number(match[1]), failed: Number(match[2]), skipped: Number(ignored?.[1] ?? 0) };
  }
  return tally;
}

/** The tests a run was through with when it broke off, and the name of the one it was in. */
export function parseProgress(output: string): Tally & { current?: string } {
  const tally = { passed: 0, failed: 0, skipped: 0 };
  const lines = withoutColours(output).split("\n");
  for (const line of lines) {
    if (/(^| \.\.\. )ok \(\d+m?s\)$/.test(line)) tally.passed++;
    else if (/(^| \.\.\. )FAILED \(\d+m?s\)$/.test(line)) tally.failed++;
    else if (/ \.\.\. ignored \(/.test(line)) tally.skipped++;
  }
  const begun = lines.findLast((line) => / \.\.\. *($|ok|FAILED|ignored)|^------- output -------/.test(line));
  const current = /^(.+) \.\.\. *$/.exec(begun ?? "")?.[1];
  return current === undefined ? tally : { ...tally, current };
}

/** The list that `deno test` prints of what failed: `name => file:line:column`. */
export function parseFailures(output: string): string[] {
  const lines = withoutColours(output).split("\n");
  const start = lines.lastIndexOf(" FAILURES ");
  if (start < 0) return [];
  return lines.slice(start + 1).filter((line) => / => \S+:\d+:\d+$|\(uncaught error\)$/.test(line));
}

/** The result of a run from its output and exit code: never better than the exit code says. */
export function judge(output: string, success: boolean): Tally {
  const { passed, failed, skipped } = parseSummary(output) ?? parseProgress(output);
  return { passed, failed: !success && failed === 0 ? 1 : failed, skipped };
}

/** The files in the order in which they run: those that boot Linux last. */
export function inOrder(files: readonly string[]): string[] {
  const isLinux = (file: string) => LINUX_FILE.test(file);
  return [...files.filter((file) => !isLinux(file)), ...files.filter(isLinux)];
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

/** Runs `deno test` with the given arguments, showing its output as it comes; ends it when it takes too long. */
export async function denoTest(
  args: string[],
  env: Record<string, string> = {},
  timeoutMs: number = FILE_TIMEOUT_MS,
): Promise<Outcome> {
  const mark = crypto.randomUUID();
  const child = new Deno.Command(Deno.execPath(), {
    args: ["test", "-A", "--no-check", `--preload=${PRELOAD}`, ...args],
    cwd: ROOT,
    env: { NO_COLOR: "1", ...env, [MARK]: mark },
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  let reason: string | undefined;
  // Whatever still holds the output open goes, too, so that reading comes to an end.
  const end = (why: string) => {
    if (reason !== undefined) return;
    reason = why;
    void endProcesses(mark);
  };
  const timer = setTimeout(() => end(`it took longer than ${Math.round(timeoutMs / 1000)} s`), timeoutMs);
  const endNow = () => end(stopped ?? "stopped");
  ends.add(endNow);
  if (stopped !== undefined) endNow();
  let output = "";
  const decoder = new TextDecoder();
  const reading = (async () => {
    for await (const bytes of child.stdout) {
      await Deno.stdout.write(bytes);
      output += decoder.decode(bytes, { stream: true });
    }
  })();
  const { success } = await child.status;
  const left = await endProcesses(mark);
  // A process that threw its environment away may still hold the output open: it is not waited for.
  let giveUp: ReturnType<typeof setTimeout> | undefined;
  const patience = new Promise<void>((resolve) => giveUp = setTimeout(resolve, OUTPUT_GRACE_MS));
  await Promise.race([reading, patience]);
  clearTimeout(giveUp);
  clearTimeout(timer);
  ends.delete(endNow);
  const failures = parseFailures(output);
  const what = args.filter((arg) => !arg.startsWith("-")).join(" ") || "deno test";
  if (reason !== undefined) {
    const { current } = parseProgress(output);
    const text = `${what}: ended, ${reason}${current === undefined ? "" : `, in "${current}"`}`;
    console.error(`\n${text}`);
    failures.push(text);
  } else if (left.length > 0) {
    console.error(`${what} left processes behind: ${left.join("; ")}`);
  }
  const tally = judge(output, success && reason === undefined);
  if (tally.failed > 0 && failures.length === 0) failures.push(`${what}: did not get to its end`);
  return { tally, failures, ended: reason !== undefined };
}

/** Runs the test files below the folders one after another, each in a process of its own. */
export async function runFolders(folders: string[], options: RunOptions = {}): Promise<Report> {
  const {
    env = {},
    endMs = Infinity,
    fileTimeoutMs = FILE_TIMEOUT_MS,
    retry = Deno.env.get("NEPHOS_TEST_RETRY") === "1",
  } = options;
  let sum = add();
  const notes: string[] = [];
  const leftMs = () => endMs - performance.now();
  const run = (file: string) => denoTest([file], env, Math.min(fileTimeoutMs, leftMs() + GRACE_MS));
  let linuxMs = LINUX_FILE_MS;
  for (const file of inOrder(await testFiles(folders))) {
    const isLinux = LINUX_FILE.test(file);
    if (isLinux && stopped === undefined && leftMs() < linuxMs) {
      const note = `${file}: not enough time is left on this machine`;
      console.error(note);
      notes.push(`SKIPPED  ${note}`);
      sum = add(sum, { passed: 0, failed: 0, skipped: 1 });
      continue;
    }
    if (leftMs() <= 0 || stopped !== undefined) {
      const note = `${file}: not run, ${stopped ?? "the time of the run is over"}`;
      console.error(note);
      notes.push(`FAILED  ${note}`);
      sum = add(sum, { passed: 0, failed: 1, skipped: 0 });
      continue;
    }
    const startMs = performance.now();
    const first = await run(file);
    if (isLinux) linuxMs = Math.max(linuxMs, LINUX_MARGIN * (performance.now() - startMs));
    const again = first.tally.failed > 0 && retry && leftMs() > 0 && stopped === undefined;
    if (again) console.error(`\n${file}: ${summary(first.tally)}. Once more:`);
    const last = again ? await run(file) : first;
    sum = add(sum, last.tally);
    notes.push(...outcomeNotes(file, first, again ? last : undefined));
  }
  return { tally: sum, notes };
}

/** What is told at the end about a file that failed at least once: nothing of the first try is left out. */
export function outcomeNotes(file: string, first: Outcome, second?: Outcome): string[] {
  if (first.tally.failed === 0) return [];
  if (second === undefined) return first.failures.map((failure) => `FAILED  ${failure}`);
  const head = second.tally.failed === 0
    ? `PASSED AT THE SECOND TRY  ${file} (first try: ${summary(first.tally)})`
    : `FAILED TWICE  ${file} (first try: ${summary(first.tally)}, second try: ${summary(second.tally)})`;
  const lines = (label: string, outcome: Outcome) => outcome.failures.map((text) => `    ${label}: ${text}`);
  return [head, ...lines("first try", first), ...lines("second try", second)];
}

/**
 * The processes a test run started, wherever they ended up: they carry a mark in their environment.
 *
 * For `test_runner.ts`. Process groups do not help: a leader of a session takes the first terminal it opens as its own.
 *
 * @module
 */

/** Environment variable with the mark of a run. */
export const MARK = "NEPHOS_TEST_RUN";
/** How long a process has to clean up before it is killed, and then to vanish. */
const GRACE_MS = 3_000;
const POLL_MS = 50;
const COMMAND_LENGTH = 200;

/** Living processes with this mark. A process that ended but was not waited for yet has no environment any more. */
export function markedProcesses(mark: string): Map<number, string> {
  const found = new Map<number, string>();
  for (const { name } of Deno.readDirSync("/proc")) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === Deno.pid) continue;
    try {
      if (!Deno.readTextFileSync(`/proc/${pid}/environ`).includes(`${MARK}=${mark}`)) continue;
      const command = Deno.readTextFileSync(`/proc/${pid}/cmdline`).replaceAll("\0", " ").trim();
      found.set(pid, command.slice(0, COMMAND_LENGTH));
    } catch {
      // It ended meanwhile, or is not ours.
    }
  }
  return found;
}

/** Ends all processes with this mark: asks first, kills after a while. @returns their command lines */
export async function endProcesses(mark: string): Promise<string[]> {
  const all = markedProcesses(mark);
  if (all.size === 0) return [];
  const send = (signal: Deno.Signal) => {
    const living = markedProcesses(mark);
    for (const pid of living.keys()) {
      try {
        Deno.kill(pid, signal);
      } catch {
        // It ended meanwhile.
      }
    }
    return living.size;
  };
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    for (const endMs = performance.now() + GRACE_MS; performance.now() < endMs;) {
      if (send(signal) === 0) return [...all.values()];
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
  return [...all.values()];
}

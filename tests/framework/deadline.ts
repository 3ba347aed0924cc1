/**
 * Waiting for conditions with a deadline. Tests never sleep for a guessed time and never judge how long things took.
 *
 * Test framework.
 *
 * @module
 */

/** All deadlines are multiplied by this: raise it on a slow or busy machine. */
const SCALE = Number(Deno.env.get("NEPHOS_TEST_TIMEOUT_SCALE") ?? "1");

/** A time limit of a test that waits by other means than `eventually`. */
export function scaled(timeoutMs: number): number {
  return timeoutMs * SCALE;
}

/** Long enough for a Linux guest to boot where ring 0 is emulated, on a very busy machine: twelve seconds alone. */
export const BOOT_TIMEOUT_MS = 300_000;
/** Long enough for anything that involves no guest: a second or two alone. Nothing waits for it to pass. */
export const HOST_TIMEOUT_MS = 120_000;

const POLL_INTERVAL_MS = 10;

/** Thrown when a condition did not come true in time. */
export class DeadlineError extends Error {
  override name = "DeadlineError";
}

/**
 * Waits until `probe` returns something other than undefined, null or false, and returns it.
 *
 * @param what names the condition in the error message; a function is called only on failure
 * @throws DeadlineError after `timeoutMs` (scaled by NEPHOS_TEST_TIMEOUT_SCALE); whatever `probe` throws
 */
export async function eventually<T>(
  what: string | (() => string),
  probe: () => T | Promise<T>,
  timeoutMs: number = HOST_TIMEOUT_MS,
): Promise<NonNullable<Exclude<T, false>>> {
  const end = performance.now() + scaled(timeoutMs);
  for (;;) {
    const value = await probe();
    if (value !== undefined && value !== null && value !== false) {
      return value as NonNullable<Exclude<T, false>>;
    }
    if (performance.now() >= end) {
      throw new DeadlineError(
        `Not within ${scaled(timeoutMs)} ms: ${typeof what === "string" ? what : what()}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
  }
}

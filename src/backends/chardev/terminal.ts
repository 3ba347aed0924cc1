/**
 * Raw mode of the user's terminals, with a promise to put back what was there.
 *
 * L4, main isolate. Modes belong to the terminal, not to a descriptor, so the first user saves and the last one restores.
 */
import { isTerminal, rawMode, setTerminalMode, terminalMode } from "@ffi/libc/pty.ts";

interface RawTerminal {
  /** Descriptor through which the mode is restored: one that stays open as long as the process. */
  readonly fd: number;
  readonly mode: Uint8Array<ArrayBuffer>;
}

const STANDARD_STREAMS = [0, 1];
/** What the isolate goes through on its way out, be it by `Deno.exit` or by an error nobody catches. */
const LAST_EVENTS = ["unload", "error", "unhandledrejection"];

let users = 0;
let saved: RawTerminal[] = [];

/** Puts the terminals of standard input and output into raw mode until `releaseTerminals`. @throws OsError */
export function acquireTerminals(): void {
  users++;
  if (users > 1) return;
  for (const event of LAST_EVENTS) globalThis.addEventListener(event, restoreTerminals);
  try {
    // Both are usually the same terminal: the second then saves the raw mode, and is restored first.
    for (const fd of STANDARD_STREAMS.filter(isTerminal)) {
      const mode = terminalMode(fd);
      saved.push({ fd, mode });
      setTerminalMode(fd, rawMode(mode));
    }
  } catch (error) {
    restoreTerminals();
    throw error;
  }
}

/** Ends one use; the last one restores the modes. Never throws. */
export function releaseTerminals(): void {
  if (users > 0 && --users === 0) restoreTerminals();
}

/**
 * Restores the modes whoever uses the terminals. Happens by itself when the isolate ends; a handler that ends the process
 * otherwise calls it. Never throws; may be called again.
 */
export function restoreTerminals(): void {
  for (const event of LAST_EVENTS) globalThis.removeEventListener(event, restoreTerminals);
  const terminals = saved.reverse();
  saved = [];
  users = 0;
  for (const { fd, mode } of terminals) {
    try {
      setTerminalMode(fd, mode);
    } catch {
      // The terminal is gone; there is nothing to restore and nobody to tell.
    }
  }
}

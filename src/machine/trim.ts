/**
 * Gives back, a while after a boot, what only the boot needed: start-up code and free memory of the allocator.
 *
 * L5, main isolate. A third of what a process of this kind holds is code of the run-time that runs once.
 */
import { forgetProgramText, trimAllocator } from "@ffi/libc/resident.ts";
import { log } from "@vmm/log/logger.ts";

/** Long enough that clients which inspect a VM right after its boot have done so. */
const TRIM_DELAY_MS = 1500;

let timer: ReturnType<typeof setTimeout> | undefined;

/** Trims once boots have been over for a while. */
export function trimSoon(): void {
  clearTimeout(timer);
  timer = setTimeout(trim, TRIM_DELAY_MS);
  Deno.unrefTimer(timer);
}

function trim(): void {
  try {
    forgetProgramText();
    trimAllocator();
  } catch (error) {
    // Out of descriptors, say: the memory stays.
    log.debug(`Memory of the start stays: ${error instanceof Error ? error.message : error}`);
  }
}

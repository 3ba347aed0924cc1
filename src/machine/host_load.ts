/**
 * Whether the host has a CPU that nobody waits for.
 *
 * L5, any Worker. Source: proc(5) "loadavg": the fourth field is running threads, a slash, all threads.
 */
import { close, O, open } from "@ffi/libc/fd.ts";
import { pread } from "@ffi/libc/file_io.ts";

const SLASH = 0x2f;
const SPACE = 0x20;
const ZERO = 0x30;

/** The number before the slash in a line of `/proc/loadavg`; NaN if there is none. */
export function runningThreads(line: Uint8Array, lengthBytes: number): number {
  const slash = line.subarray(0, lengthBytes).indexOf(SLASH);
  if (slash < 0) return NaN;
  let running = 0;
  for (let i = line.lastIndexOf(SPACE, slash) + 1; i < slash; i++) running = 10 * running + line[i] - ZERO;
  return running;
}

/** Looks at the host's run queues. */
export class HostLoad {
  readonly #line = new Uint8Array(64);
  readonly #cpus = navigator.hardwareConcurrency;
  #fd = -1;

  /** True if no more threads want to run than there are CPUs for us. False where that cannot be known. */
  readonly hasFreeCpu = (): boolean => {
    if (this.#fd < 0) {
      try {
        this.#fd = open("/proc/loadavg", O.RDONLY);
      } catch {
        return false;
      }
    }
    return runningThreads(this.#line, pread(this.#fd, this.#line, 0)) <= this.#cpus;
  };

  close(): void {
    close(this.#fd);
    this.#fd = -1;
  }
}

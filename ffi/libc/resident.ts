/**
 * Giving back memory that only the start of the program needed.
 *
 * L0, any isolate, cold path. Source: madvise(2) MADV_DONTNEED on clean file pages, malloc_trim(3), proc_pid_maps(5).
 */
import { advise, MADV } from "./mmap.ts";

/** A range of host memory, end exclusive. */
export interface AddressRange {
  readonly start: bigint;
  readonly end: bigint;
}

const MAPPING = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \S+ +(.+)$/;

/**
 * Constants and code of the program at `path`: its read-only mappings up to the first one that is executable. Behind that one
 * the linker puts what relocation has written to, which must stay.
 *
 * @param maps contents of `/proc/self/maps`
 */
export function programText(maps: string, path: string): AddressRange[] {
  const found: AddressRange[] = [];
  for (const line of maps.split("\n")) {
    const [, start, end, permissions, name] = MAPPING.exec(line) ?? [];
    if (name !== path) continue;
    if (permissions[1] === "w") return [];
    found.push({ start: BigInt(`0x${start}`), end: BigInt(`0x${end}`) });
    if (permissions[2] === "x") return found;
  }
  return [];
}

/**
 * Unmaps the pages of the program's code; those that are used again come back from the page cache, at the cost of a minor
 * fault for every 64 KiB. Returns the bytes looked at.
 */
export function forgetProgramText(): number {
  let total = 0;
  for (const { start, end } of programText(Deno.readTextFileSync("/proc/self/maps"), Deno.execPath())) {
    if (advise(start, Number(end - start), MADV.DONTNEED) === 0) total += Number(end - start);
  }
  return total;
}

/** Gives free memory of the allocator back to the kernel: 20 MiB after a start that had to compile everything. */
export function trimAllocator(): void {
  try {
    // SAFETY: malloc_trim(3) takes a size and gives back free pages only.
    const lib = Deno.dlopen("libc.so.6", { malloc_trim: { parameters: ["usize"], result: "i32" } });
    lib.symbols.malloc_trim(0n);
    lib.close();
  } catch {
    // A C library without that call: nothing is lost but memory.
  }
}

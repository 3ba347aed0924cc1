/**
 * Clocks of the host without allocation: seconds and nanoseconds become one number.
 *
 * L0, any isolate, also in the vCPU exit loop. Source: clock_gettime(2) (served by the vDSO).
 */
import { struct } from "../abi/struct.ts";

/** struct timespec. */
export const Timespec = struct("timespec", { tv_sec: "u64", tv_nsec: "u64" }, {
  size: 16,
  source: "time.h",
});

const CLOCK_REALTIME = 0;
const CLOCK_MONOTONIC = 1;
const NS_PER_SECOND = 1e9;
const US_PER_SECOND = 1e6;
const NS_PER_US = 1e3;

// SAFETY: signature as in time.h; the kernel writes 16 bytes into `bytes`, which lives as long as the module.
const lib = Deno.dlopen("libc.so.6", {
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
});

const bytes = new Uint8Array(Timespec.size);
const view = new DataView(bytes.buffer);
const words = new Int32Array(bytes.buffer);
const { tv_sec, tv_nsec } = Timespec.offsets;

function seconds(): number {
  return view.getUint32(tv_sec, true) + view.getUint32(tv_sec + 4, true) * 0x1_0000_0000;
}

/** Nanoseconds since boot, the same in every isolate; exact while the host is up less than 104 days, else to 2 ns. */
export function monotonicNs(): number {
  lib.symbols.clock_gettime(CLOCK_MONOTONIC, bytes);
  return seconds() * NS_PER_SECOND + view.getUint32(tv_nsec, true);
}

/** Nanoseconds since 1970-01-01 UTC, exact. Allocates: for rare requests. */
export function realtimeNs(): bigint {
  lib.symbols.clock_gettime(CLOCK_REALTIME, bytes);
  return BigInt(seconds()) * BigInt(NS_PER_SECOND) + BigInt(view.getUint32(tv_nsec, true));
}

/** Bits of a small integer: numbers up to here are never objects. */
const SMALL = 0x3fff_ffff;

/** Microseconds since boot modulo 2^30 (18 minutes): for short times on paths that must not allocate. */
export function monotonicUsSmall(): number {
  lib.symbols.clock_gettime(CLOCK_MONOTONIC, bytes);
  const micros = (words[tv_nsec >> 2] / NS_PER_US) | 0;
  return (Math.imul(words[tv_sec >> 2], US_PER_SECOND) + micros) & SMALL;
}

/** Microseconds since 1970-01-01 UTC. */
export function realtimeUs(): number {
  lib.symbols.clock_gettime(CLOCK_REALTIME, bytes);
  return seconds() * US_PER_SECOND + Math.floor(view.getUint32(tv_nsec, true) / NS_PER_US);
}

/**
 * The clocks legacy devices read.
 *
 * L4. The vCPU Worker gives the host's (`ffi/libc/clock.ts`), tests give their own. No method allocates or throws.
 */

/** Host time as numbers. */
export interface TimeSource {
  /** Nanoseconds since some fixed moment, the same for every vCPU. */
  monotonicNs(): number;
  /** Microseconds since 1970-01-01 UTC. */
  realtimeUs(): number;
}

/**
 * Rate limits of a configuration as shared state.
 *
 * L5, main isolate.
 */
import { monotonicNs } from "@ffi/libc/clock.ts";
import type { RateLimiterConfig } from "@schemas/api/rate_limiter.ts";
import { createLimiterState } from "@vmm/base/rate_limiter.ts";

const NS_PER_MS = 1e6;

/** State of a limiter, or undefined when the configuration limits nothing. */
export function limiterOf(config: RateLimiterConfig | undefined): SharedArrayBuffer | undefined {
  if (config?.bandwidth === undefined && config?.ops === undefined) return undefined;
  const bucket = (from: RateLimiterConfig["ops"]) =>
    from && {
      size: Number(from.size),
      oneTimeBurst: Number(from.one_time_burst ?? 0n),
      refillMs: Number(from.refill_time),
    };
  const limits = { bandwidth: bucket(config.bandwidth), ops: bucket(config.ops) };
  return createLimiterState(limits, monotonicNs() / NS_PER_MS);
}

/**
 * Rate limits of a configuration as shared state.
 *
 * L5, main isolate.
 */
import { monotonicNs } from "@ffi/libc/clock.ts";
import type { RateLimiterConfig } from "@schemas/api/rate_limiter.ts";
import { createLimiterState, type LimiterConfig } from "@vmm/base/rate_limiter.ts";

const NS_PER_MS = 1e6;

/** The limits in plain numbers, or undefined when the configuration limits nothing. */
export function limitsOf(config: RateLimiterConfig | undefined): LimiterConfig | undefined {
  if (config?.bandwidth === undefined && config?.ops === undefined) return undefined;
  const bucket = (from: RateLimiterConfig["ops"]) =>
    from && {
      size: Number(from.size),
      oneTimeBurst: Number(from.one_time_burst ?? 0n),
      refillMs: Number(from.refill_time),
    };
  return { bandwidth: bucket(config.bandwidth), ops: bucket(config.ops) };
}

/** State of a limiter with full buckets, or undefined when the configuration limits nothing. */
export function limiterOf(config: RateLimiterConfig | undefined): SharedArrayBuffer | undefined {
  const limits = limitsOf(config);
  return limits && createLimiterState(limits, monotonicNs() / NS_PER_MS);
}

/**
 * Token buckets limiting bytes and operations per second.
 *
 * L0. Source: spec/schemas.md "RateLimiterConfig / groups".
 */
import * as z from "zod";
import { struct, text, u64 } from "@schemas/primitives.ts";

export const TokenBucketConfigSchema = struct("TokenBucket", {
  size: u64().describe("Tokens the bucket can hold"),
  one_time_burst: u64().describe("Extra tokens available once at the start").optional(),
  refill_time: u64().describe("Milliseconds to refill the bucket"),
}, {
  wireName: "TokenBucketConfig",
  nullWhenAbsent: ["one_time_burst"],
  requiredInSequence: ["one_time_burst"],
});
/** How much per refill time, and how much more once. */
export type TokenBucketConfig = z.infer<typeof TokenBucketConfigSchema>;

export const RateLimiterConfigSchema = struct("RateLimiterConfig", {
  bandwidth: TokenBucketConfigSchema.describe("Limit in bytes").optional(),
  ops: TokenBucketConfigSchema.describe("Limit in operations").optional(),
}, { denyUnknown: true, nullWhenAbsent: ["bandwidth", "ops"], requiredInSequence: ["bandwidth", "ops"] });
/** Limits of bytes and of operations. */
export type RateLimiterConfig = z.infer<typeof RateLimiterConfigSchema>;

export const RateLimiterGroupConfigSchema = struct("RateLimitGroupConfig", {
  id: text().default(""),
  rate_limiter_config: RateLimiterConfigSchema.default(() => ({})),
}, { wireName: "RateLimiterGroupConfig" });
/** A limit that several disks share. */
export type RateLimiterGroupConfig = z.infer<typeof RateLimiterGroupConfigSchema>;

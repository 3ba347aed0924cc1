/**
 * Parameters of rate limiters. A bucket exists only if both its size and its refill time are given and not 0.
 *
 * L0. Source: spec/cli.md §2, spec/schemas.md "RateLimiterConfig / groups".
 */
import type { RateLimiterGroupConfig } from "@schemas/api/rate_limiter.ts";
import { parametersOf } from "./parameter.ts";

const bucketParameters = <const B extends "bandwidth" | "ops">(bucket: B, unit: string, what: string) => ({
  size: {
    kind: "u64",
    field: "rate_limiter_config",
    value: `<${unit}>`,
    bucket: [bucket, "size"],
    doc: `Size of the ${what} bucket`,
  },
  burst: {
    kind: "u64",
    field: "rate_limiter_config",
    value: `<${unit}>`,
    bucket: [bucket, "one_time_burst"],
    doc: `Extra initial ${what}, spent once`,
  },
  refill: {
    kind: "u64",
    field: "rate_limiter_config",
    value: "<ms>",
    bucket: [bucket, "refill_time"],
    doc: `Time to refill the ${what} bucket`,
  },
} as const);

const bandwidth = bucketParameters("bandwidth", "bytes", "bandwidth");
const operations = bucketParameters("ops", "io_ops", "operations");

export const rateLimiterParameters = {
  bw_size: bandwidth.size,
  bw_one_time_burst: bandwidth.burst,
  bw_refill_time: bandwidth.refill,
  ops_size: operations.size,
  ops_one_time_burst: operations.burst,
  ops_refill_time: operations.refill,
} as const;

export const rateLimitGroupParameters = parametersOf<RateLimiterGroupConfig>()({
  id: { kind: "string", field: "id", value: "<device_id>", default: "", doc: "Name disks refer to" },
  ...rateLimiterParameters,
});

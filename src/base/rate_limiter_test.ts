import assert from "node:assert/strict";
import { createLimiterState, type LimiterConfig, RateLimiter, RETRY_MS } from "@vmm/base/rate_limiter.ts";

const clock = { now: 1000 };
function limiter(config: LimiterConfig): RateLimiter {
  clock.now = 1000;
  return new RateLimiter(createLimiterState(config, clock.now), () => clock.now);
}

Deno.test("RateLimiter passes everything without buckets", () => {
  const none = limiter({});
  for (let i = 0; i < 1000; i++) assert.ok(none.tryRequest(2 ** 40));
  assert.equal(none.blockedMs(), 0);
});

Deno.test("RateLimiter starts full, blocks 100 ms when empty, then refills by time", () => {
  const ops = limiter({ ops: { size: 10, oneTimeBurst: 0, refillMs: 1000 } });
  for (let i = 0; i < 10; i++) assert.ok(ops.tryRequest(0), `operation ${i}`);
  assert.ok(!ops.tryRequest(0));
  assert.equal(ops.blockedMs(), RETRY_MS);
  clock.now += RETRY_MS;
  assert.equal(ops.blockedMs(), 0);
  assert.ok(ops.tryRequest(0), "one token came back in 100 ms");
  assert.ok(!ops.tryRequest(0));
});

Deno.test("RateLimiter spends the one-time burst first", () => {
  const bytes = limiter({ bandwidth: { size: 100, oneTimeBurst: 50, refillMs: 1000 } });
  assert.ok(bytes.tryRequest(50));
  assert.ok(bytes.tryRequest(100));
  assert.ok(!bytes.tryRequest(1));
});

Deno.test("RateLimiter lets a request larger than the bucket pass and blocks for its excess", () => {
  const bytes = limiter({ bandwidth: { size: 100, oneTimeBurst: 0, refillMs: 1000 } });
  assert.ok(bytes.tryRequest(350));
  assert.equal(bytes.blockedMs(), 2500);
  assert.ok(!bytes.tryRequest(1));
});

Deno.test("RateLimiter gives the operation back when the bytes do not pass", () => {
  const both = limiter({
    bandwidth: { size: 100, oneTimeBurst: 0, refillMs: 1000 },
    ops: { size: 2, oneTimeBurst: 0, refillMs: 1e9 },
  });
  assert.ok(both.tryRequest(90));
  assert.ok(!both.tryRequest(90));
  clock.now += 1000;
  assert.ok(both.tryRequest(90), "the second operation was not lost");
});

Deno.test("RateLimiter.account() lets the last one through and then reports the limit", () => {
  const bytes = limiter({ bandwidth: { size: 100, oneTimeBurst: 0, refillMs: 1000 } });
  assert.ok(bytes.account(60));
  assert.ok(!bytes.account(60));
  assert.ok(bytes.blockedMs() > 0);
});

Deno.test("RateLimiter shares its buckets with other views of the same memory", () => {
  const state = createLimiterState({ ops: { size: 3, oneTimeBurst: 0, refillMs: 1e9 } }, 0);
  const [one, other] = [new RateLimiter(state, () => 0), new RateLimiter(state, () => 0)];
  assert.ok(one.tryRequest(0) && other.tryRequest(0) && one.tryRequest(0));
  assert.ok(!other.tryRequest(0));
  assert.equal(one.blockedMs(), RETRY_MS);
});

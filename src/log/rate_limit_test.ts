import assert from "node:assert/strict";
import { RateLimit } from "./rate_limit.ts";

Deno.test("RateLimit lets a burst through, then the steady rate, and counts what it held back", () => {
  let now = 0;
  const limit = new RateLimit(() => now, 2, 100);
  assert.equal(limit.take("k"), 0);
  assert.equal(limit.take("k"), 0);
  assert.equal(limit.take("k"), undefined);
  assert.equal(limit.take("k"), undefined);
  assert.equal(limit.take("other"), 0);
  now = 99;
  assert.equal(limit.take("k"), undefined);
  now = 100;
  assert.equal(limit.take("k"), 3);
  assert.equal(limit.take("k"), undefined);
  now = 100_000;
  assert.equal(limit.take("k"), 1);
  assert.equal(limit.take("k"), 0);
  assert.equal(limit.take("k"), undefined);
});

Deno.test("RateLimit forgets the oldest key instead of growing", () => {
  const limit = new RateLimit(() => 0, 1, 100);
  for (let i = 0; i < 5_000; i++) limit.take(`key ${i}`);
  assert.equal(limit.take("key 4999"), undefined);
  assert.equal(limit.take("key 0"), 0);
});

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

Deno.test("RateLimit owes what it held back until something tells of it", () => {
  let now = 0;
  const limit = new RateLimit<string>(() => now, 1, 100);
  assert.equal(limit.take("k", "a"), 0);
  assert.equal(limit.owes, false);
  assert.equal(limit.take("k", "b"), undefined);
  assert.equal(limit.take("k", "c", 7), undefined);
  assert.deepEqual(limit.owed(), []);
  assert.equal(limit.owes, true);
  now = 100;
  assert.deepEqual(limit.owed(), [{ held: "c", count: 9 }]);
  assert.equal(limit.owes, false);
  assert.equal(limit.take("k", "d"), undefined);
  assert.deepEqual(limit.owed(true), [{ held: "d", count: 1 }]);
  now = 200;
  assert.equal(limit.take("k", "e", 3), 3);
});

Deno.test("RateLimit forgets the oldest key instead of growing", () => {
  const limit = new RateLimit(() => 0, 1, 100);
  for (let i = 0; i < 5_000; i++) {
    limit.take(`key ${i}`);
    limit.take(`key ${i}`);
  }
  assert.equal(limit.owed(true).length, 1_024);
  assert.equal(limit.take("key 4999"), undefined);
  assert.equal(limit.take("key 0"), 0);
});

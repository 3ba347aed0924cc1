import assert from "node:assert/strict";
import { monotonicNs, monotonicUsSmall, realtimeUs } from "./clock.ts";

Deno.test("monotonicNs() never goes back", () => {
  let last = 0;
  for (let i = 0; i < 1000; i++) {
    const now = monotonicNs();
    assert.ok(now >= last);
    last = now;
  }
});

Deno.test("realtimeUs() is the time of day", () => {
  const before = Date.now();
  const micros = realtimeUs();
  assert.ok(Number.isInteger(micros));
  assert.ok(micros / 1000 >= before - 1 && micros / 1000 < before + 60_000);
});

Deno.test("monotonicUsSmall() is the same clock modulo 2^30", () => {
  const before = Math.floor(monotonicNs() / 1000);
  const small = monotonicUsSmall();
  const after = Math.floor(monotonicNs() / 1000);
  const since = (small - before % 2 ** 30 + 2 ** 30) % 2 ** 30;
  assert.ok(since <= after - before, `${since} of ${after - before}`);
});

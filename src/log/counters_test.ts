import assert from "node:assert/strict";
import { makeApiCounters, RequestCounters } from "./counters.ts";

Deno.test("RequestCounters counts by endpoint and status and sorts latencies into buckets", () => {
  const counters = new RequestCounters();
  counters.record("vmm.ping", 200, 0.00005);
  counters.record("vmm.ping", 200, 0.0001);
  counters.record("vm.boot", 500, 0.5);
  counters.record("vm.boot", 204, 60);
  assert.deepEqual([...counters.statuses().get("vm.boot")!], [[500, 1], [204, 1]]);
  assert.deepEqual(counters.latency().get("vmm.ping")!.buckets, [2, 0, 0, 0, 0, 0, 0]);
  assert.deepEqual(counters.latency().get("vm.boot")!.buckets, [0, 0, 0, 0, 1, 0, 1]);
  assert.equal(counters.latency().get("vm.boot")!.sumSeconds, 60.5);
});

Deno.test("RequestCounters counts what was turned away by reason, each door for itself", () => {
  const { http, dbus } = makeApiCounters();
  http.refuse("too_long");
  http.refuse("malformed");
  http.refuse("too_long");
  assert.deepEqual([...http.refusals()], [["too_long", 2], ["malformed", 1]]);
  assert.equal(dbus.refusals().size, 0);
});

import assert from "node:assert/strict";
import { RequestCounters } from "@vmm/log/counters.ts";
import { metricsText } from "./metrics.ts";

Deno.test("metricsText() writes samples with escaped labels and cumulative buckets", () => {
  const counters = new RequestCounters();
  counters.record("vm.info", 200, 0.0005);
  counters.record("vm.info", 404, 5);
  const text = metricsText(counters, {
    waiting: 2,
    vmState: "Running",
    memoryActualBytes: 1n << 62n,
    devices: { 'a"b\\': { read_ops: 3n, read_latency_min: 0xffff_ffff_ffff_ffffn } },
    machine: { exits_hlt: 7 },
  }, "0.1.0");
  const lines = text.split("\n");
  for (
    const expected of [
      'nephos_build_info{version="0.1.0"} 1',
      'nephos_api_requests_total{endpoint="vm.info",status="404"} 1',
      'nephos_api_request_seconds_bucket{endpoint="vm.info",le="0.0001"} 0',
      'nephos_api_request_seconds_bucket{endpoint="vm.info",le="0.001"} 1',
      'nephos_api_request_seconds_bucket{endpoint="vm.info",le="10"} 2',
      'nephos_api_request_seconds_bucket{endpoint="vm.info",le="+Inf"} 2',
      'nephos_api_request_seconds_count{endpoint="vm.info"} 2',
      "nephos_operations_waiting 2",
      'nephos_vm_state{state="Running"} 1',
      'nephos_vm_state{state="Paused"} 0',
      "nephos_vm_memory_actual_bytes 4611686018427387904",
      'nephos_device_counter{device="a\\"b\\\\",counter="read_ops"} 3',
      'nephos_machine{name="exits_hlt"} 7',
    ]
  ) assert.ok(lines.includes(expected), expected);
  assert.ok(!text.includes("read_latency_min"), "a counter that has seen nothing says nothing");
  for (const line of lines.slice(0, -1)) assert.match(line, /^(# (HELP|TYPE) \w+ .+|\w+(\{.*\})? \S+)$/);
});

import assert from "node:assert/strict";
import { makeApiCounters } from "@vmm/log/counters.ts";
import { readExposition } from "@tests/framework/prometheus.ts";
import type { LoopFigures } from "./control_loop.ts";
import { metricsText } from "./metrics.ts";

const U64_MAX = 0xffff_ffff_ffff_ffffn;

const FIGURES: LoopFigures = {
  waiting: 2,
  vmState: "Running",
  memoryActualBytes: 1n << 62n,
  devices: {
    'a"b\\\n': {
      read_bytes: 4096n,
      read_ops: 3n,
      read_latency_min: 250n,
      read_latency_max: 1_000_000n,
      write_ops: 0n,
      write_latency_min: U64_MAX,
      write_latency_avg: U64_MAX / 10_000n,
    },
    net0: { rx_frames: 7n, tx_bytes: U64_MAX, oddities: 1n },
  },
  machine: {
    exits_reason_2: 7,
    exits_reason_5: 1,
    exits_reason_99: 3,
    unassigned_pio: 4,
    unassigned_mmio: 0,
    driver_faults: 5,
    "driver_faults:_disk1": 5,
    novelties: 1,
  },
};

function samplesOf(text: string): string[] {
  return text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
}

Deno.test("metricsText() writes requests of each door as a counter and a histogram", () => {
  const counters = makeApiCounters();
  counters.http.record("vm.info", 200, 0.0005);
  counters.http.record("vm.info", 404, 5);
  counters.dbus.record("vm.info", 404, 0.05);
  counters.library.record("vm.boot", 204, 1);
  counters.http.refuse("too_many_connections");
  counters.dbus.refuse("too_long");
  const text = metricsText(counters, { ...FIGURES, devices: {}, machine: {} }, "0.1.0");
  const samples = samplesOf(text);
  for (
    const expected of [
      'nephos_build_info{version="0.1.0"} 1',
      'nephos_api_requests_total{door="http",endpoint="vm.info",status="404"} 1',
      'nephos_api_requests_total{door="dbus",endpoint="vm.info",status="404"} 1',
      'nephos_api_requests_total{door="library",endpoint="vm.boot",status="204"} 1',
      'nephos_api_refused_total{door="http",reason="too_many_connections"} 1',
      'nephos_api_refused_total{door="dbus",reason="too_long"} 1',
      'nephos_api_request_seconds_bucket{door="http",endpoint="vm.info",le="0.0001"} 0',
      'nephos_api_request_seconds_bucket{door="http",endpoint="vm.info",le="0.001"} 1',
      'nephos_api_request_seconds_bucket{door="http",endpoint="vm.info",le="10"} 2',
      'nephos_api_request_seconds_bucket{door="http",endpoint="vm.info",le="+Inf"} 2',
      'nephos_api_request_seconds_count{door="http",endpoint="vm.info"} 2',
      'nephos_api_request_seconds_sum{door="dbus",endpoint="vm.info"} 0.05',
      "nephos_operations_waiting 2",
      'nephos_vm_state{state="Running"} 1',
      'nephos_vm_state{state="Paused"} 0',
      "nephos_vm_memory_actual_bytes 4611686018427387904",
    ]
  ) assert.ok(samples.includes(expected), expected);
  readExposition(text);
});

Deno.test("metricsText() writes exits by KVM's reason and counters of devices in base units", () => {
  const text = metricsText(makeApiCounters(), FIGURES, "0.1.0");
  const samples = samplesOf(text);
  for (
    const expected of [
      'nephos_vcpu_exits_total{reason="io"} 7',
      'nephos_vcpu_exits_total{reason="hlt"} 1',
      'nephos_vcpu_exits_total{reason="99"} 3',
      'nephos_unassigned_accesses_total{space="pio"} 4',
      'nephos_unassigned_accesses_total{space="mmio"} 0',
      'nephos_driver_faults_total{device="_disk1"} 5',
      'nephos_machine{name="novelties"} 1',
      'nephos_disk_read_bytes_total{device="a\\"b\\\\\\n"} 4096',
      'nephos_disk_latency_seconds{device="a\\"b\\\\\\n",direction="read",stat="min"} 0.00025',
      'nephos_disk_latency_seconds{device="a\\"b\\\\\\n",direction="read",stat="max"} 1',
      'nephos_net_received_frames_total{device="net0"} 7',
      'nephos_net_sent_bytes_total{device="net0"} 18446744073709551615',
      'nephos_device_counter{device="net0",counter="oddities"} 1',
    ]
  ) assert.ok(samples.includes(expected), `${expected}\nis not in\n${text}`);
  assert.ok(!text.includes('direction="write"'), "latency of what has not happened");
  const families = readExposition(text);
  assert.equal(families.get("nephos_disk_reads_total")?.samples[0].labels.device, 'a"b\\\n');
});

Deno.test("readExposition() finds what promtool would complain about", () => {
  const head = "# HELP a_total x\n# TYPE a_total counter\n";
  readExposition(`${head}a_total 1\n`);
  for (
    const bad of [
      `${head}a_total 1`,
      "a_total 1\n",
      "# TYPE a_total counter\na_total 1\n",
      "# HELP a x\n# TYPE a counter\na 1\n",
      "# HELP a_ms x\n# TYPE a_ms gauge\na_ms 1\n",
      `${head}b_total 1\n`,
      `${head}a_total{x="1} 1\n`,
      `${head}a_total{x="\\q"} 1\n`,
      `${head}a_total 1n\n`,
      `${head}a_total 1\na_total 2\n`,
      `${head}a_total 1\n${head}`,
      '# HELP h x\n# TYPE h histogram\nh_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n',
    ]
  ) assert.throws(() => readExposition(bad), Error, bad);
});

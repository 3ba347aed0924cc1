import assert from "node:assert/strict";
import { AnswerError } from "./answer_error.ts";
import { readVmCounters, readVmInfo } from "./answers.ts";

Deno.test("readVmInfo() gives 64-bit fields as bigint, all others as they are", () => {
  const info = readVmInfo(
    '{"config":{"cpus":{"boot_vcpus":1,"max_vcpus":2},"memory":{"size":1,"hotplug_size":18446744073709551615},' +
      '"disks":[{"id":"d","pci_segment":0,"path":"/a","rate_limiter_config":{"bandwidth":{"size":5,' +
      '"one_time_burst":null,"refill_time":9007199254740993},"ops":null}}],"future":{"a":[1,1.5]}},' +
      '"state":"Running","memory_actual_size":9007199254740993,"device_tree":{"d":{"id":"d","resources":' +
      '[{"PciBar":{"index":0,"base":3891789824,"size":524288,"type_":"Mmio32","prefetchable":false}},' +
      '{"LegacyIrq":5}],"parent":"p","children":[],"pci_bdf":"0000:00:01.0"}}}',
  );
  assert.equal(info.memory_actual_size, 2n ** 53n + 1n);
  assert.equal(info.config.memory.size, 1n);
  assert.equal(info.config.memory.hotplug_size, 2n ** 64n - 1n);
  assert.equal(info.config.cpus.max_vcpus, 2);
  assert.deepEqual(info.config.disks?.[0].rate_limiter_config, {
    bandwidth: { size: 5n, refill_time: 2n ** 53n + 1n },
  });
  assert.deepEqual(info.device_tree?.d.resources, [
    { PciBar: { index: 0, base: 3891789824n, size: 524288n, type_: "Mmio32", prefetchable: false } },
    { LegacyIrq: 5 },
  ]);
  assert.deepEqual((info.config as unknown as { future: unknown }).future, { a: [1, 1.5] });
});

Deno.test("readVmCounters() keeps the largest number", () => {
  assert.deepEqual(readVmCounters('{"d":{"read_bytes":0,"read_latency_min":18446744073709551615}}'), {
    d: { read_bytes: 0n, read_latency_min: 2n ** 64n - 1n },
  });
});

Deno.test("answers of another form are refused", () => {
  for (const text of ["", "nonsense", "[]", "1", "null"]) {
    assert.throws(() => readVmInfo(text), AnswerError, text);
  }
});

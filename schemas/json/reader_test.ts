import assert from "node:assert/strict";
import { DiskConfigSchema } from "@schemas/api/disk.ts";
import { VmResizeSchema } from "@schemas/api/requests.ts";
import { SendMigrationDataSchema } from "@schemas/api/migration.ts";
import { VmConfigSchema } from "@schemas/api/vm_config.ts";
import { withoutDescriptors } from "@schemas/descriptors.ts";
import { readJson } from "@schemas/json/reader.ts";
import { writeJson } from "@schemas/json/writer.ts";
import { unprintable } from "@tests/differential/edge_bodies.ts";
import golden from "@tests/golden/json_edges.json" with { type: "json" };

Deno.test("readJson() and writeJson() give the original's recorded answers at the edges of JSON", () => {
  assert.ok(golden.length > 300);
  for (const { body, answer } of golden) {
    const read = readJson(VmConfigSchema, unprintable(body));
    const ours = read.ok
      ? `204 {"config":${writeJson(VmConfigSchema, withoutDescriptors(read.value))},"state":"Created"`
      : `400 ${JSON.stringify(["Failed to deserialize JSON", read.message])}`;
    assert.equal(ours, answer, body);
  }
});

Deno.test("readJson() names the field a fault is at", () => {
  const fieldOf = (text: string) => {
    const read = readJson(VmConfigSchema, text);
    return read.ok ? undefined : read.fieldPath;
  };
  assert.equal(fieldOf('{"disks":[{},{"queue_size":-1}]}'), "disks[1].queue_size");
  assert.equal(
    fieldOf('{"cpus":{"boot_vcpus":1,"max_vcpus":1,"affinity":[{"vcpu":0,"host_cpus":[0,"x"]}]}}'),
    "cpus.affinity[0].host_cpus[1]",
  );
  assert.equal(fieldOf('{"net":[{"pci_segment":65536}]}'), "net[0].pci_segment");
  assert.equal(fieldOf('{"memory":'), "memory");
  assert.equal(fieldOf("x"), "");
});

Deno.test("readJson() keeps 64-bit integers exact", () => {
  const read = readJson(VmResizeSchema, '{"desired_ram":18446744073709551615,"desired_vcpus":4294967295}');
  assert.deepEqual(read, {
    ok: true,
    value: { desired_ram: 0xffff_ffff_ffff_ffffn, desired_vcpus: 0xffff_ffff },
  });
});

Deno.test("readJson() refuses counts that a number cannot hold", () => {
  const read = readJson(DiskConfigSchema, '{"num_queues":9007199254740992}');
  assert.ok(!read.ok);
  assert.equal(
    read.message,
    "invalid value: integer `9007199254740992`, expected usize below 2^53 at line 1 column 30",
  );
  assert.equal(read.fieldPath, "num_queues");
});

Deno.test("readJson() fills in defaults and leaves absent options out", () => {
  const read = readJson(SendMigrationDataSchema, '{"destination_url":"unix:/s","tls_dir":null}');
  assert.deepEqual(read, {
    ok: true,
    value: {
      destination_url: "unix:/s",
      local: false,
      preserve_source: false,
      downtime_ms: 300n,
      timeout_s: 3600n,
      timeout_strategy: "Cancel",
      connections: 1,
      memory_mode: "Precopy",
    },
  });
});

Deno.test("readJson() makes a new default for each value", () => {
  const [first, second] = [readJson(VmConfigSchema, "{}"), readJson(VmConfigSchema, "{}")];
  assert.ok(first.ok && second.ok);
  assert.notEqual(first.value.cpus, second.value.cpus);
  assert.deepEqual(first.value, second.value);
});

Deno.test("readJson() agrees with zod on what a valid value is", () => {
  for (const { body, answer } of golden) {
    if (!answer.startsWith("204")) continue;
    const read = readJson(VmConfigSchema, unprintable(body));
    assert.ok(read.ok);
    assert.deepEqual(VmConfigSchema.parse(read.value), read.value);
  }
});

Deno.test("readJson() skips a megabyte of unknown nesting without recursion", () => {
  const read = readJson(VmResizeSchema, `{"x":${"[".repeat(500_000)}${"]".repeat(500_000)}}`);
  assert.deepEqual(read, { ok: true, value: {} });
});

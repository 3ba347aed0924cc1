/**
 * The JSON reader and writer beside the original: the same bytes to both, equal answers expected.
 */
import assert from "node:assert/strict";
import type { z } from "zod";
import { DiskConfigSchema } from "@schemas/api/disk.ts";
import { DeviceConfigSchema, UserDeviceConfigSchema } from "@schemas/api/assigned_device.ts";
import {
  ReceiveMigrationDataSchema,
  RestoreConfigSchema,
  SendMigrationDataSchema,
} from "@schemas/api/migration.ts";
import { NetConfigSchema } from "@schemas/api/net.ts";
import {
  VmCoredumpDataSchema,
  VmRemoveDeviceSchema,
  VmResizeDiskSchema,
  VmResizeSchema,
  VmResizeZoneSchema,
  VmSnapshotConfigSchema,
} from "@schemas/api/requests.ts";
import {
  FsConfigSchema,
  GenericVhostUserConfigSchema,
  PmemConfigSchema,
  VdpaConfigSchema,
  VsockConfigSchema,
} from "@schemas/api/virtio_devices.ts";
import { VmConfigSchema } from "@schemas/api/vm_config.ts";
import { withoutDescriptors } from "@schemas/descriptors.ts";
import { readJson } from "@schemas/json/reader.ts";
import { writeJson } from "@schemas/json/writer.ts";
import { damagedBody, Random, validBody } from "./bodies.ts";
import { REFERENCE_VMM, ReferenceVmm } from "./reference_vmm.ts";

const SEED = Number(Deno.env.get("DIFFERENTIAL_SEED") ?? 1);
const CASES = Number(Deno.env.get("DIFFERENTIAL_CASES") ?? 400);

function differential(name: string, run: (reference: ReferenceVmm) => Promise<void>): void {
  Deno.test({
    name: REFERENCE_VMM === undefined ? `${name} (skipped: REFERENCE_VMM is not set)` : name,
    ignore: REFERENCE_VMM === undefined,
    fn: async () => {
      await using reference = await ReferenceVmm.start();
      await run(reference);
    },
  });
}

/** What our library answers to `vm.create` followed by `vm.info`, up to the configuration. */
function ourAnswer(body: Uint8Array | string): string {
  const read = readJson(VmConfigSchema, body);
  if (!read.ok) return `400 ${JSON.stringify(["Failed to deserialize JSON", read.message])}`;
  return `204 {"config":${writeJson(VmConfigSchema, withoutDescriptors(read.value))},"state":"Created"`;
}

async function theirAnswer(reference: ReferenceVmm, body: Uint8Array | string): Promise<string> {
  const created = await reference.request("PUT", "vm.create", body);
  const info = created.status === 204 ? await reference.request("GET", "vm.info") : undefined;
  await reference.request("PUT", "vm.delete");
  if (info === undefined) return `${created.status} ${created.body}`;
  return `204 ${info.body.replace(/,"memory_actual_size":\d+\}$/, "")}`;
}

async function compareAll(reference: ReferenceVmm, bodies: Iterable<Uint8Array | string>): Promise<void> {
  const differences: unknown[] = [];
  for (const body of bodies) {
    const ours = ourAnswer(body);
    const theirs = await theirAnswer(reference, body);
    if (ours !== theirs) {
      differences.push({ body: typeof body === "string" ? body : Array.from(body), ours, theirs });
    }
  }
  assert.deepEqual(differences, []);
}

function* bodiesOf(schema: z.ZodType, count: number, seed: number, damaged: boolean): Generator<string> {
  const random = new Random(seed);
  for (let i = 0; i < count; i++) {
    const valid = validBody(schema, random);
    const body = damaged ? damagedBody(valid, random) : valid;
    // A request without a body is a matter of the HTTP layer.
    if (body !== "") yield body;
  }
}

differential("valid vm.create bodies give the original's vm.info", async (reference) => {
  await compareAll(reference, bodiesOf(VmConfigSchema, CASES, SEED, false));
});

differential("damaged vm.create bodies give the original's error", async (reference) => {
  await compareAll(reference, bodiesOf(VmConfigSchema, CASES, SEED + 1, true));
});

differential("damaged disks give the original's error", async (reference) => {
  const bodies = Array.from(
    bodiesOf(DiskConfigSchema, CASES, SEED + 2, true),
    (disk) => `{"disks":[${disk}]}`,
  );
  await compareAll(reference, bodies);
});

/** Nested `depth` times: `open` … `close` around `inner`. */
const nested = (depth: number, open: string, close: string, inner = "") =>
  open.repeat(depth) + inner + close.repeat(depth);

const bytes = (...parts: (string | number)[]) =>
  Uint8Array.from(
    parts.flatMap((part) => typeof part === "number" ? [part] : [...new TextEncoder().encode(part)]),
  );

const EDGE_BODIES: readonly (Uint8Array | string)[] = [
  " ",
  "{",
  "{}}",
  "{} x",
  "[]",
  "null",
  "3",
  '"x"',
  "{,}",
  '{"x"}',
  '{"x":}',
  '{"x":1,}',
  "{x:1}",
  '{"x" 1}',
  '{"cpus":{"boot_vcpus":1,"max_vcpus":1},"cpus":{}}',
  '{"cpus" : 3 , "cpus"  : 4}',
  '{"cpus":{"boot_vcpus":1 "max_vcpus":1}}',
  '{"cpus":{"boot_vcpus":1,"max_vcpus":1',
  '{"cpus":{"boot_vcpus":1,"max_vcpus":1 x}',
  '{"platform":{"uuid":"a","system_uuid":"b"}}',
  '{"platform":{"serial_number":"a" , "serial_number" : "b"}}',
  '{"a":1,"a":2}',
  `{"x":${nested(1000, "[", "]")}}`,
  `{"x":${nested(1000, '{"y":', "}", "1")}}`,
  `{"x":${nested(1000, '[{"y":', "}]", "1")}}`,
  `{"disks":[{"x":${nested(124, "[", "]")}}]}`,
  `{"disks":[{"x":${nested(125, "[", "]")}}]}`,
  `{"disks":[{"x":${nested(126, "[", "]")}}]}`,
  `{"disks":[{"x":${nested(300, '{"y":', "}", "1")}}]}`,
  nested(127, "[", "]"),
  nested(200, "[", "]"),
  '{"x":"\\u12"}',
  '{"x":"\\ud800"}',
  '{"x":"\\udc00\\ud800"}',
  '{"x":"\\q"}',
  '{"x":"\\u12g4"}',
  '{"x":"tab\\there"}',
  '{"x":"a\u0001b"}',
  '{"x":"a\tb"}',
  '{"payload":{"kernel":"a\tb"}}',
  '{"payload":{"kernel":"a\u0001b"}}',
  '{"payload":{"kernel":"\\u12g4"}}',
  '{"payload":{"kernel":"\\ud800"}}',
  '{"payload":{"kernel":"\\ud800\\\\n"}}',
  '{"payload":{"kernel":"\\ud800\\\\u0041"}}',
  '{"payload":{"kernel":"\\udc00"}}',
  '{"payload":{"kernel":"\\ud83d\\ude00 \\u00e9 \\/ \\b\\f\\n\\r\\t"}}',
  '{"payload":{"kernel":"\\u0000\\u001f\\u007f\\u2028"}}',
  '{"payload":{"kernel":"a',
  '{"payload":{"kernel":"\\',
  '{"payload":{"kernel":"\\u1',
  bytes('{"payload":{"kernel":"a', 0xff, 'b"}}'),
  bytes('{"payload":{"kernel":"a', 0xff, '\\q"}}'),
  bytes('{"payload":{"kernel":"', 0xc3, '\\u00a9"}}'),
  bytes('{"payload":{"kernel":"', 0xed, 0xa0, 0x80, '"}}'),
  bytes('{"x":"', 0xff, 0xfe, '"}'),
  bytes('{"', 0xff, '":1}'),
  bytes(0xef, 0xbb, 0xbf, "{}"),
  bytes('{"disks":[{"x":"', 0xff, '"}]}'),
  '{"memory":{"size":"a\\"b\\\\c\\n\\t\\u0007\\u00a0\\u0301\\u200b\\ue000\\u00e9 \\u3000"}}',
  '{"memory":{"size":"\\ud83d\\ude00\\ufeff\\u00ad\\u0600"}}',
  '{"memory":{"hotplug_method":"x"}}',
  '{"memory":{"hotplug_method":{"Acpi":null , }}}',
  '{"memory":{"hotplug_method":{"Acpi":null,"x":1}}}',
  '{"memory":{"hotplug_method":{"Acpi":1}}}',
  '{"memory":{"hotplug_method":{"Acpi":[]}}}',
  '{"memory":{"hotplug_method":{"Acpi":',
  '{"memory":{"hotplug_method":{"Acpi":null',
  ...["", "}", "1", "null", "[]", ",", ":", '"', '"Acpi"', " 1"].map((key) =>
    `{"memory":{"hotplug_method":{${key}`
  ),
  '{"memory":{"hotplug_method":{1:null}}}',
  '{"memory":{"hotplug_method":["Acpi"]}}',
  '{"memory":{"hotplug_method":',
  '{"cpus":{"boot_vcpus":1,"max_vcpus":1,"core_scheduling":"x"}}',
  '{"cpus":{"boot_vcpus":1,"max_vcpus":1,"profile":"x"}}',
  '{"disks":[{"image_type":"x"}]}',
  '{"disks":[{"lock_granularity":"x"}]}',
  '{"net":[{"vhost_mode":"x"}]}',
  '{"debug_console":{"mode":"x"}}',
  '{"serial":{"mode":"x"}}',
  '{"serial":{"mode":{"Null":null}}}',
  '{"serial":{"mode":{"Null":{}}}}',
  '{"serial":{"mode":{"Null":3}}}',
  '{"serial":{"mode":{"Null":null,"Tty":null}}}',
  '{"serial":{"mode":["Null"]}}',
  '{"serial":{"mode":"Null","mode":"Tty"}}',
  '{"serial":{"file":3,"mode":"Null","file":"a"}}',
  '{"serial":{"mode":null}}',
  '{"serial":{}}',
  '{"console":{"id":3}}',
  '{"console":{"id":3,"mode":"Null"}}',
  '{"console":{"iommu":null,"mode":"Null"}}',
  '{"console":{"pci_segment":65536,"mode":"Null"}}',
  '{"console":{"pci_segment":-0,"mode":"Null"}}',
  '{"console":{"pci_segment":1e2,"mode":"Null"}}',
  '{"console":{"pci_device_id":-1,"mode":"Null"}}',
  '{"console":{"pci_device_id":null,"id":null,"mode":"Null"}}',
  '{"disks":[{"id":"a","id":"b"}]}',
  '{"disks":[{"path":"a","path":"b"}]}',
  '{"disks":[{"id":"a"}, {"id":3 } \n]}',
  '{"net":[{"mac":3}]}',
  '{"net":[{"mac":"x" , "ip":"q"}]}',
  '{"net":[{"mac":"x"',
  '{"net":[{"mac":"x at line 3 column 4"}]}',
  '{"net":[{"ip":"1.2.3.4.5"}]}',
  '{"net":[{"fds":["x"]}]}',
  '{"net":[{"fds":[4294967296]}]}',
  '{"net":[{"fds":null,"mac":null,"host_mac":null,"ip":null}]}',
  '{"devices":[{"fd":2147483648}]}',
  '{"platform":{"iommufd_fd":-2147483649}}',
  '{"net":[{"rate_limiter_config":{"ops":null,"bandwidth":{"size":1,"refill_time":1,"x":1}}}]}',
  '{"net":[{"rate_limiter_config":{"size":1}}]}',
  '{"net":[{"rate_limiter_config":[null,null]}]}',
  ...["-0", "1e5", "1.5", "1e16", "1.25e300", "1e309", "3.3e-300", "0.00001", "1e-6", "18446744073709551615"]
    .map(
      (number) => `{"memory":{"size":${number}}}`,
    ),
  ...[
    "18446744073709551616",
    "-9223372036854775809",
    "0e99999999999",
    "1e-99999999999",
    "01",
    "-",
    "1.",
    "1e+",
  ].map(
    (number) => `{"memory":{"size":${number}}}`,
  ),
  ...["01", "-01", "-", "1.", "1e", "1e+", "-x", "1.e3", "0.0e-0", "1E5"].map((number) => `{"x":${number}}`),
  ...["1e400", "-0", "1.5", "18446744073709551616"].map((number) => `{"disks":[{"id":${number}}]}`),
];

differential("the edges of JSON give the original's answer", async (reference) => {
  await compareAll(reference, EDGE_BODIES);
});

const REQUESTS: readonly (readonly [string, z.ZodType])[] = [
  ["vm.resize", VmResizeSchema],
  ["vm.resize-zone", VmResizeZoneSchema],
  ["vm.resize-disk", VmResizeDiskSchema],
  ["vm.remove-device", VmRemoveDeviceSchema],
  ["vm.snapshot", VmSnapshotConfigSchema],
  ["vm.coredump", VmCoredumpDataSchema],
  ["vm.restore", RestoreConfigSchema],
  ["vm.receive-migration", ReceiveMigrationDataSchema],
  ["vm.send-migration", SendMigrationDataSchema],
  ["vm.add-disk", DiskConfigSchema],
  ["vm.add-net", NetConfigSchema],
  ["vm.add-fs", FsConfigSchema],
  ["vm.add-pmem", PmemConfigSchema],
  ["vm.add-vdpa", VdpaConfigSchema],
  ["vm.add-vsock", VsockConfigSchema],
  ["vm.add-device", DeviceConfigSchema],
  ["vm.add-user-device", UserDeviceConfigSchema],
  ["vm.add-generic-vhost-user", GenericVhostUserConfigSchema],
];

differential("request bodies are refused with the original's text", async (reference) => {
  const differences: unknown[] = [];
  for (const [endpoint, schema] of REQUESTS) {
    for (const damaged of [false, true]) {
      for (const body of bodiesOf(schema, Math.ceil(CASES / 10), SEED + 3, damaged)) {
        const read = readJson(schema, body);
        const reply = await reference.request("PUT", endpoint, body);
        const theirs = reply.body.startsWith('["Failed to deserialize JSON"') ? reply.body : "accepted";
        const ours = read.ok ? "accepted" : JSON.stringify(["Failed to deserialize JSON", read.message]);
        if (ours !== theirs) differences.push({ endpoint, body, ours, theirs });
      }
    }
  }
  assert.deepEqual(differences, []);
});

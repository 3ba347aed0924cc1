/**
 * The JSON reader and writer beside the original: the same bytes to both, equal answers expected.
 */
import assert from "node:assert/strict";
import type * as z from "zod";
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
import { EDGE_BODIES, printable } from "./edge_bodies.ts";
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

const GOLDEN = new URL("../golden/json_edges.json", import.meta.url);

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

differential("the edges of JSON give the original's answer", async (reference) => {
  await compareAll(reference, EDGE_BODIES);
  if (Deno.env.get("UPDATE_GOLDEN") === undefined) return;
  const golden = [];
  for (const body of EDGE_BODIES) {
    golden.push({ body: printable(body), answer: await theirAnswer(reference, body) });
  }
  await Deno.writeTextFile(GOLDEN, JSON.stringify(golden, null, 1) + "\n");
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

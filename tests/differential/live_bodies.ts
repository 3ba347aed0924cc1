/**
 * Bodies for a VM that may run: random ones from the schemas, and what clients send with members exchanged.
 *
 * Tests only. The program under test runs in a directory that `makeFiles` filled: paths are relative to it.
 */
import { join } from "node:path";
import { bodySchema, type OperationWithBody } from "@vmm/api/body_reader.ts";
import { COUNT, pvhElf } from "@tests/framework/tiny_guest.ts";
import { damagedBody, type Random, validBody } from "./bodies.ts";

const MIB = 1 << 20;

/** The files the bodies name. */
export async function makeFiles(directory: string): Promise<void> {
  await Deno.writeFile(join(directory, "kernel"), pvhElf(COUNT));
  for (const name of ["disk0", "disk1"]) await Deno.writeFile(join(directory, name), new Uint8Array(MIB));
  await Deno.writeFile(join(directory, "pmem"), new Uint8Array(2 * MIB));
}

/** What clients send; relative paths are those of files that are there. */
const REALISTIC: Partial<Record<OperationWithBody, Record<string, unknown>>> = {
  "vm.create": runningConfig(),
  "vm.resize": { desired_vcpus: 1 },
  "vm.resize-zone": { id: "zone", desired_ram: 128 * MIB },
  "vm.resize-disk": { id: "boot", desired_size: 2 * MIB },
  "vm.add-disk": { path: "disk1", image_type: "Raw" },
  "vm.add-pmem": { file: "pmem", discard_writes: true },
  "vm.add-net": { mac: "02:00:00:00:00:07", num_queues: 2 },
  "vm.add-vsock": { cid: 3, socket: "vsock" },
  "vm.add-fs": { tag: "t", socket: "fs", num_queues: 1 },
  "vm.add-device": { path: "/sys/bus/pci/devices/0000:00:00.0" },
  "vm.remove-device": { id: "boot" },
  "vm.snapshot": { destination_url: "file://snapshot" },
  "vm.coredump": { destination_url: "file://core" },
  "vm.restore": { source_url: "file://snapshot" },
  "vm.send-migration": { destination_url: "unix:migration" },
};

/** A VM that boots in no time. */
export function runningConfig(): Record<string, unknown> {
  return {
    payload: { kernel: "kernel" },
    cpus: { boot_vcpus: 1, max_vcpus: 2 },
    memory: { size: 64 * MIB, shared: true },
    disks: [{ id: "boot", path: "disk0", image_type: "Raw" }],
    balloon: { size: 0 },
    serial: { mode: "Null" },
    console: { mode: "Off" },
  };
}

/** `body` with one or two members from somewhere else, or without one. */
function exchanged(
  body: Record<string, unknown>,
  schemaBody: string,
  random: Random,
): Record<string, unknown> {
  const other = JSON.parse(schemaBody);
  const result: Record<string, unknown> = structuredClone(body);
  if (Array.isArray(other)) return result;
  const names = Object.keys(other);
  for (let count = 1 + random.below(2); count > 0 && names.length > 0; count--) {
    const name = random.pick(names);
    const inner = result[name];
    const isDeep = typeof inner === "object" && inner !== null && !Array.isArray(inner) && random.chance(0.7);
    if (isDeep && typeof other[name] === "object" && other[name] !== null) {
      for (const [key, value] of Object.entries(other[name])) {
        if (random.chance(0.4)) (inner as never)[key as never] = value as never;
      }
    } else result[name] = other[name];
  }
  if (random.chance(0.1)) delete result[random.pick(Object.keys(result))];
  return result;
}

/** A body for `operation`: valid, damaged, or nearly what a client sends. */
export function randomBody(operation: OperationWithBody, random: Random): string {
  const valid = validBody(bodySchema(operation), random);
  const base = REALISTIC[operation];
  const text = base !== undefined && random.chance(0.6)
    ? JSON.stringify(exchanged(base, valid, random))
    : valid;
  return random.chance(0.3) ? damagedBody(text, random) : text;
}

/** True if handling the body would wait for another program to open a socket. */
export function waitsForOthers(operation: string, body: string): boolean {
  return ["vm.add-fs", "vm.add-generic-vhost-user"].includes(operation) ||
    /"vhost_user":\s*true/.test(body) ||
    operation === "vm.receive-migration";
}

import assert from "node:assert/strict";
import { ArchError } from "@vmm/arch/x86_64/errors.ts";
import { MIB, planControllers, planMemory, planSegments } from "@vmm/arch/x86_64/layout.ts";
import { resolveTopology } from "@vmm/arch/x86_64/topology.ts";
import { fadt } from "./fadt.ts";
import type { AcpiMachine } from "./machine.ts";
import { slit, srat } from "./numa.ts";
import { buildAcpi } from "./tables.ts";
import { viot } from "./viot.ts";

function machine(more: Partial<AcpiMachine> = {}, segments = 1): AcpiMachine {
  const memory = planMemory({ zones: [{ id: "mem0", sizeBytes: 128 * MIB }], physBits: 46 });
  return {
    bootVcpus: 1,
    maxVcpus: 1,
    topology: resolveTopology(undefined, 1),
    memory,
    segments: planSegments(memory, Array.from({ length: segments }, () => ({ mmio32: 1, mmio64: 1 }))),
    controllers: planControllers(memory),
    serial: true,
    ...more,
  };
}

const sum = (bytes: Uint8Array) => bytes.reduce((total, byte) => (total + byte) & 0xff, 0);
const view = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

Deno.test("buildAcpi() places tables back to back with right lengths and checksums", () => {
  const { tables, blobs, rsdpGpa } = buildAcpi(machine({ tpm: true, numaNodes: [{ id: 0, cpus: [0] }] }));
  assert.deepEqual(tables.map((t) => t.signature), [
    "DSDT",
    "FACP",
    "APIC",
    "MCFG",
    "TPM2",
    "SRAT",
    "SLIT",
    "XSDT",
  ]);
  let next = 0xa_0024;
  for (const { gpa, bytes } of tables) {
    assert.equal(gpa, next);
    assert.equal(view(bytes).getUint32(4, true), bytes.length);
    assert.equal(sum(bytes), 0);
    next += bytes.length;
  }
  const rsdp = blobs[0];
  assert.equal(rsdp.gpa, rsdpGpa);
  assert.equal(sum(rsdp.bytes), 0);
  assert.equal(sum(rsdp.bytes.subarray(0, 20)), 0);
  const xsdt = tables.at(-1)!;
  assert.equal(view(rsdp.bytes).getBigUint64(24, true), BigInt(xsdt.gpa));
  const listed = Array.from({ length: 6 }, (_, i) => Number(view(xsdt.bytes).getBigUint64(36 + i * 8, true)));
  assert.deepEqual(listed, tables.slice(1, -1).map((t) => t.gpa));
  assert.equal(view(tables[1].bytes).getBigUint64(140, true), BigInt(tables[0].gpa));
});

Deno.test("buildAcpi() refuses tables that reach the SMBIOS area", () => {
  const many = machine({ maxVcpus: 1024 }, 96);
  assert.throws(
    () => buildAcpi(many),
    (error) =>
      error instanceof ArchError && error.condition === "acpi" &&
      /do not fit below 0xf0000/.test(error.chain()[1]),
  );
});

Deno.test("fadt() advertises PM1a blocks only when asked for", () => {
  const plain = view(fadt(0xa_0024, false).bytes);
  assert.equal(plain.getUint32(56, true), 0);
  const legacy = fadt(0xa_0024, true).bytes;
  assert.deepEqual([view(legacy).getUint32(56, true), view(legacy).getUint32(64, true)], [0x60c, 0x610]);
  assert.deepEqual([legacy[88], legacy[89]], [4, 2]);
  assert.deepEqual([...legacy.subarray(148, 156)], [1, 32, 0, 2, 0x0c, 0x06, 0, 0]);
  assert.deepEqual([...legacy.subarray(172, 180)], [1, 16, 0, 2, 0x10, 0x06, 0, 0]);
  assert.equal(sum(legacy), 0);
});

Deno.test("slit() takes the way back's distance, the last of two, and 20 by default", () => {
  const { bytes } = slit(machine({
    numaNodes: [
      { id: 5 },
      {
        id: 1,
        distances: [{ destination: 5, distance: 30 }, { destination: 5, distance: 31 }],
      },
      { id: 3, distances: [{ destination: 1, distance: 15 }, { destination: 3, distance: 99 }] },
    ],
  }));
  assert.deepEqual([...bytes.subarray(44)], [10, 15, 31, 15, 10, 20, 31, 20, 10]);
});

Deno.test("srat() encodes a generic initiator's function as ACPI has it", () => {
  const { bytes } = srat(machine({ numaNodes: [{ id: 1, device: { segment: 2, bdf: 0x0118 } }] }));
  const entry = bytes.subarray(48);
  assert.deepEqual([...entry.subarray(0, 12)], [5, 32, 0, 1, 1, 0, 0, 0, 2, 0, 0x18, 0x01]);
  assert.equal(entry.length, 32);
});

Deno.test("viot() lists one range per endpoint", () => {
  const { bytes } = viot({ segment: 0, bdf: 0x10 }, [{ segment: 1, bdf: 0x20 }]);
  const table = view(bytes);
  assert.deepEqual([table.getUint16(36, true), table.getUint16(38, true)], [2, 48]);
  assert.deepEqual([bytes[48], table.getUint16(50, true), table.getUint16(54, true)], [3, 16, 0x10]);
  assert.deepEqual([bytes[64], table.getUint16(66, true), table.getUint32(68, true)], [1, 24, 0x1_0020]);
  assert.equal(table.getUint16(80, true), 48);
});

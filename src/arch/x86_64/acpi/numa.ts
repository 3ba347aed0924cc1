/**
 * NUMA: System Resource Affinity Table and System Locality Information Table.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §6; ACPI 6.5 §5.2.16, §5.2.17.
 */
import { ByteWriter } from "@vmm/arch/x86_64/byte_writer.ts";
import type { AddressRange } from "@vmm/arch/x86_64/layout.ts";
import { x2apicId } from "@vmm/arch/x86_64/topology.ts";
import type { AcpiMachine, NumaNode, PciAddress } from "./machine.ts";
import { type AcpiTable, sdt } from "./sdt.ts";

const TYPE_MEMORY = 1;
const TYPE_X2APIC = 2;
const TYPE_GENERIC_INITIATOR = 5;
const HANDLE_PCI = 1;
const ENABLED = 1;
const HOTPLUGGABLE = 2;

const LOCAL_DISTANCE = 10;
const REMOTE_DISTANCE = 20;

const byId = (machine: AcpiMachine) => [...machine.numaNodes ?? []].sort((a, b) => a.id - b.id);

function memoryAffinity(node: number, range: AddressRange, flags: number): Uint8Array {
  return new ByteWriter()
    .u8(TYPE_MEMORY, 40).u32(node).u16(0)
    .u64(range.gpa, range.sizeBytes)
    .u32(0, flags).u64(0)
    .take();
}

function processorAffinity(node: number, apicId: number): Uint8Array {
  return new ByteWriter().u8(TYPE_X2APIC, 24).u16(0).u32(node, apicId, ENABLED, 0, 0).take();
}

function initiatorAffinity(node: number, device: PciAddress): Uint8Array {
  return new ByteWriter()
    .u8(TYPE_GENERIC_INITIATOR, 32, 0, HANDLE_PCI).u32(node)
    .u16(device.segment, device.bdf).zeros(12)
    .u32(ENABLED, 0)
    .take();
}

/** System Resource Affinity Table: nodes by id; memory, then growable memory, then CPUs, then the device. */
export function srat(machine: AcpiMachine): AcpiTable {
  const { ramRegions, virtioMemRegions } = machine.memory;
  const body = new ByteWriter().zeros(12);
  for (const node of byId(machine)) {
    const zones = node.memoryZones ?? [];
    const inZones = <T extends { zoneId: string }>(regions: readonly T[]) =>
      zones.flatMap((zone) => regions.filter((region) => region.zoneId === zone));
    for (const region of inZones(ramRegions)) body.bytes(memoryAffinity(node.id, region, ENABLED));
    for (const region of inZones(virtioMemRegions)) {
      body.bytes(memoryAffinity(node.id, region, ENABLED | HOTPLUGGABLE));
    }
    for (const cpu of node.cpus ?? []) {
      body.bytes(processorAffinity(node.id, x2apicId(cpu, machine.topology)));
    }
    if (node.device !== undefined) body.bytes(initiatorAffinity(node.id, node.device));
  }
  return sdt({ signature: "SRAT", revision: 3, oemTableId: "CHSRAT" }, body.take());
}

function distance(from: NumaNode, to: NumaNode): number {
  if (from.id === to.id) return LOCAL_DISTANCE;
  const configured = (a: NumaNode, b: NumaNode) =>
    a.distances?.findLast((entry) => entry.destination === b.id)?.distance;
  return configured(from, to) ?? configured(to, from) ?? REMOTE_DISTANCE;
}

/** System Locality Information Table: as configured, else the way back's, else 20. */
export function slit(machine: AcpiMachine): AcpiTable {
  const nodes = byId(machine);
  const body = new ByteWriter().u64(nodes.length);
  for (const from of nodes) for (const to of nodes) body.u8(distance(from, to));
  return sdt({ signature: "SLIT", revision: 1, oemTableId: "CHSLIT" }, body.take());
}

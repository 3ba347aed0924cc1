/**
 * Multiple APIC Description Table: processors, IOAPIC, serial interrupt.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §3, §6; ACPI 6.5 §5.2.12.
 */
import { ByteWriter } from "@vmm/arch/x86_64/byte_writer.ts";
import { APIC_START, COM1_IRQ, IOAPIC_START } from "@vmm/arch/x86_64/layout.ts";
import { x2apicId } from "@vmm/arch/x86_64/topology.ts";
import type { AcpiMachine } from "./machine.ts";
import { type AcpiTable, sdt } from "./sdt.ts";

const REVISION = 5;

const TYPE_IOAPIC = 1;
const TYPE_INTERRUPT_OVERRIDE = 2;
const TYPE_LOCAL_X2APIC = 9;

export const MADT_ENABLED = 1;
export const MADT_ONLINE_CAPABLE = 2;

/** One processor local x2APIC structure. */
export function x2apicEntry(uid: number, id: number, flags: number): Uint8Array<ArrayBuffer> {
  return new ByteWriter().u8(TYPE_LOCAL_X2APIC, 16).u16(0).u32(id, flags, uid).take();
}

/** Multiple APIC Description Table. */
export function madt(machine: AcpiMachine): AcpiTable {
  const body = new ByteWriter().u32(APIC_START, 0);
  for (let cpu = 0; cpu < machine.maxVcpus; cpu++) {
    const enabled = cpu < machine.bootVcpus ? MADT_ENABLED : 0;
    body.bytes(x2apicEntry(cpu, x2apicId(cpu, machine.topology), MADT_ONLINE_CAPABLE | enabled));
  }
  body.u8(TYPE_IOAPIC, 12, 0, 0).u32(IOAPIC_START, 0); // id 0, first GSI 0
  body.u8(TYPE_INTERRUPT_OVERRIDE, 10, 0, COM1_IRQ).u32(COM1_IRQ).u16(0);
  return sdt({ signature: "APIC", revision: REVISION, oemTableId: "CHMADT" }, body.take());
}

/**
 * MultiProcessor table for guests without ACPI.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §6; Intel MultiProcessor Specification 1.4 ch. 4.
 */
import type { GuestBlob } from "./boot_cpu.ts";
import { ByteWriter, checksum8 } from "./byte_writer.ts";
import { APIC_START, HIGH_RAM_START, IOAPIC_START } from "./layout.ts";
import { type CpuTopology, x2apicId } from "./topology.ts";

const FLOATING_POINTER_BYTES = 16;
const FLOATING_POINTER_CHECKSUM_AT = 10;
const TABLE_LENGTH_AT = 4;
const TABLE_CHECKSUM_AT = 7;
const SPECIFICATION_1_4 = 4;

const ENTRY = { processor: 0, bus: 1, ioapic: 2, interrupt: 3, localInterrupt: 4 } as const;
const INTERRUPT_TYPE = { vectored: 0, nmi: 1, extInt: 3 } as const;
const CPU_ENABLED = 1;
const CPU_BOOTSTRAP = 2;
const CPU_SIGNATURE = 0x600;
const CPU_FEATURES = 0x201; // APIC, FPU
const APIC_VERSION = 0x14;
const IOAPIC_ID = 255;
const IOAPIC_USABLE = 1;
const ISA_IRQ_COUNT = 16;
const ALL_LOCAL_APICS = 0xff;
/** From this APIC id on there is no table: ids are bytes, and the IOAPIC has one. */
const APIC_ID_LIMIT = 254;

/**
 * The table at the next 16-byte boundary behind `afterGpa` (the end of SMBIOS), or undefined where it does not fit
 * below 1 MiB or an APIC id is too large.
 */
export function buildMpTable(
  afterGpa: number,
  bootVcpus: number,
  topology: CpuTopology,
): GuestBlob | undefined {
  if (bootVcpus > 0 && x2apicId(bootVcpus - 1, topology) >= APIC_ID_LIMIT) return undefined;
  const gpa = Math.floor((afterGpa + 16) / 16) * 16;
  const table = configurationTable(bootVcpus, topology);
  if (gpa + FLOATING_POINTER_BYTES + table.length >= HIGH_RAM_START) return undefined;
  const pointer = new ByteWriter()
    .ascii("_MP_").u32(gpa + FLOATING_POINTER_BYTES).u8(1, SPECIFICATION_1_4, 0).zeros(5)
    .take();
  pointer[FLOATING_POINTER_CHECKSUM_AT] = checksum8(pointer);
  return { gpa, bytes: new ByteWriter().bytes(pointer).bytes(table).take() };
}

function configurationTable(bootVcpus: number, topology: CpuTopology): Uint8Array {
  const writer = new ByteWriter()
    .ascii("PCMP").u16(0).u8(SPECIFICATION_1_4, 0)
    .ascii("FC", 8, 0x20).ascii("000000000000")
    .zeros(8) // OEM table, entry count
    .u32(APIC_START, 0);
  for (let cpu = 0; cpu < bootVcpus; cpu++) {
    writer
      .u8(ENTRY.processor, x2apicId(cpu, topology), APIC_VERSION)
      .u8(CPU_ENABLED | (cpu === 0 ? CPU_BOOTSTRAP : 0))
      .u32(CPU_SIGNATURE, CPU_FEATURES).zeros(8);
  }
  writer.u8(ENTRY.bus, 0).ascii("ISA", 6, 0x20);
  writer.u8(ENTRY.ioapic, IOAPIC_ID, APIC_VERSION, IOAPIC_USABLE).u32(IOAPIC_START);
  for (let irq = 0; irq < ISA_IRQ_COUNT; irq++) {
    writer.u8(ENTRY.interrupt, INTERRUPT_TYPE.vectored).u16(0).u8(0, irq, IOAPIC_ID, irq);
  }
  writer.u8(ENTRY.localInterrupt, INTERRUPT_TYPE.extInt).u16(0).u8(0, 0, 0, 0);
  writer.u8(ENTRY.localInterrupt, INTERRUPT_TYPE.nmi).u16(0).u8(0, 0, ALL_LOCAL_APICS, 1);
  const bytes = writer.take();
  new DataView(bytes.buffer).setUint16(TABLE_LENGTH_AT, bytes.length, true);
  bytes[TABLE_CHECKSUM_AT] = checksum8(bytes);
  return bytes;
}

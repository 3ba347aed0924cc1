/**
 * PCI configuration windows: MCFG.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §6; PCI Firmware 3.3 §4.1.2.
 */
import { ByteWriter } from "@vmm/arch/x86_64/byte_writer.ts";
import type { AcpiMachine } from "./machine.ts";
import { type AcpiTable, sdt } from "./sdt.ts";

/** One entry per segment; each has bus 0 only. */
export function mcfg(machine: AcpiMachine): AcpiTable {
  const body = new ByteWriter().u64(0);
  for (const { ecam, segment } of machine.segments) {
    body.u64(ecam.gpa).u16(segment).u8(0, 0).u32(0); // first and last bus
  }
  return sdt({ signature: "MCFG", revision: 1, oemTableId: "CHMCFG" }, body.take());
}

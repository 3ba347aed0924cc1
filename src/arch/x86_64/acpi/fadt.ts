/**
 * Fixed ACPI Description Table: a hardware-reduced platform with reset, sleep and timer registers in I/O space.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §2, §6; ACPI 6.5 §5.2.9, §5.2.3.2 (generic address).
 */
import { ByteWriter } from "@vmm/arch/x86_64/byte_writer.ts";
import {
  ACPI_PM1A_CONTROL_PORT,
  ACPI_PM1A_EVENT_PORT,
  ACPI_PM_TIMER_PORT,
  ACPI_PM_TIMER_PORT_COUNT,
  ACPI_SHUTDOWN_PORT,
} from "@vmm/arch/x86_64/layout.ts";
import { type AcpiTable, sdt, SDT_HEADER_BYTES } from "./sdt.ts";

const REVISION = 6;
const MINOR_REVISION = 3;
const FADT_BYTES = 276;
export const RESET_VALUE = 1;

/** Offsets in the table. */
const FADT = {
  pm1a_evt_blk: 56,
  pm1a_cnt_blk: 64,
  pm1_evt_len: 88,
  pm1_cnt_len: 89,
  flags: 112,
  reset_reg: 116,
  reset_value: 128,
  minor_revision: 131,
  x_dsdt: 140,
  x_pm1a_evt_blk: 148,
  x_pm1a_cnt_blk: 172,
  x_pm_tmr_blk: 208,
  sleep_control_reg: 244,
  sleep_status_reg: 256,
  hypervisor_vendor: 268,
} as const;

const FLAGS = {
  TMR_VAL_EXT: 1 << 8,
  RESET_REG_SUP: 1 << 10,
  HW_REDUCED_ACPI: 1 << 20,
} as const;

const SPACE_IO = 1;
const ACCESS = { byte: 1, word: 2, dword: 3 } as const;

/** A generic address structure in I/O space. */
function ioRegister(port: number, bits: number, access: keyof typeof ACCESS): Uint8Array {
  return new ByteWriter().u8(SPACE_IO, bits, 0, ACCESS[access]).u64(port).take();
}

/** Fixed ACPI Description Table. @param legacyPm1a see `AcpiMachine` */
export function fadt(dsdtGpa: number, legacyPm1a: boolean): AcpiTable {
  const table = new Uint8Array(FADT_BYTES);
  const view = new DataView(table.buffer);
  view.setUint32(FADT.flags, FLAGS.TMR_VAL_EXT | FLAGS.RESET_REG_SUP | FLAGS.HW_REDUCED_ACPI, true);
  table.set(ioRegister(ACPI_SHUTDOWN_PORT, 8, "byte"), FADT.reset_reg);
  table[FADT.reset_value] = RESET_VALUE;
  table[FADT.minor_revision] = MINOR_REVISION;
  view.setBigUint64(FADT.x_dsdt, BigInt(dsdtGpa), true);
  if (legacyPm1a) {
    view.setUint32(FADT.pm1a_evt_blk, ACPI_PM1A_EVENT_PORT, true);
    view.setUint32(FADT.pm1a_cnt_blk, ACPI_PM1A_CONTROL_PORT, true);
    table[FADT.pm1_evt_len] = 4;
    table[FADT.pm1_cnt_len] = 2;
    table.set(ioRegister(ACPI_PM1A_EVENT_PORT, 32, "word"), FADT.x_pm1a_evt_blk);
    table.set(ioRegister(ACPI_PM1A_CONTROL_PORT, 16, "word"), FADT.x_pm1a_cnt_blk);
  }
  table.set(ioRegister(ACPI_PM_TIMER_PORT, 8 * ACPI_PM_TIMER_PORT_COUNT, "dword"), FADT.x_pm_tmr_blk);
  table.set(ioRegister(ACPI_SHUTDOWN_PORT, 8, "byte"), FADT.sleep_control_reg);
  table.set(ioRegister(ACPI_SHUTDOWN_PORT, 8, "byte"), FADT.sleep_status_reg);
  table.set(new TextEncoder().encode("CLOUDHYP"), FADT.hypervisor_vendor);
  return sdt(
    { signature: "FACP", revision: REVISION, oemTableId: "CHFACP" },
    table.subarray(SDT_HEADER_BYTES),
  );
}

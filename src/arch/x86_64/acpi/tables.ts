/**
 * All ACPI tables of a machine and their places: RSDP first, then back to back.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §1, §6; ACPI 6.5 §5.2.5 (RSDP), §5.2.8 (XSDT).
 */
import type { GuestBlob } from "@vmm/arch/x86_64/boot_cpu.ts";
import { ByteWriter, checksum8 } from "@vmm/arch/x86_64/byte_writer.ts";
import { chainedError } from "@vmm/arch/x86_64/errors.ts";
import { RSDP_START, SMBIOS_START } from "@vmm/arch/x86_64/layout.ts";
import { dsdt } from "./dsdt.ts";
import { fadt } from "./fadt.ts";
import type { AcpiMachine } from "./machine.ts";
import { madt } from "./madt.ts";
import { mcfg } from "./mcfg.ts";
import { slit, srat } from "./numa.ts";
import { type AcpiTable, OEM_ID, sdt } from "./sdt.ts";
import { tpm2 } from "./tpm2.ts";
import { viot } from "./viot.ts";

const RSDP_BYTES = 36;
const RSDP_REVISION = 2;
const RSDP_CHECKSUM_AT = 8;
const RSDP_EXTENDED_CHECKSUM_AT = 32;
/** The part of the RSDP that the first checksum covers. */
const RSDP_V1_BYTES = 20;

/** A table at its place. */
export interface PlacedTable extends AcpiTable {
  readonly gpa: number;
}

/** The tables of a machine. */
export interface AcpiTables {
  readonly rsdpGpa: number;
  /** In address order, XSDT last. */
  readonly tables: readonly PlacedTable[];
  /** Everything to write into guest memory: RSDP and tables. */
  readonly blobs: readonly GuestBlob[];
}

function rsdp(xsdtGpa: number): Uint8Array {
  const bytes = new ByteWriter()
    .ascii("RSD PTR ").u8(0).ascii(OEM_ID).u8(RSDP_REVISION)
    .u32(0, RSDP_BYTES).u64(xsdtGpa).zeros(4)
    .take();
  bytes[RSDP_CHECKSUM_AT] = checksum8(bytes.subarray(0, RSDP_V1_BYTES));
  bytes[RSDP_EXTENDED_CHECKSUM_AT] = checksum8(bytes);
  return bytes;
}

function xsdt(addresses: readonly number[]): AcpiTable {
  return sdt(
    { signature: "XSDT", revision: 1, oemTableId: "CHXSDT" },
    new ByteWriter().u64(...addresses).take(),
  );
}

/**
 * Builds all tables.
 *
 * @throws ArchError (acpi) when they reach into the SMBIOS area: too many vCPUs and PCI segments at once
 */
export function buildAcpi(machine: AcpiMachine): AcpiTables {
  const tables: PlacedTable[] = [];
  let next = RSDP_START + RSDP_BYTES;
  const place = (table: AcpiTable): number => {
    const gpa = next;
    tables.push({ ...table, gpa });
    next += table.bytes.length;
    return gpa;
  };
  const dsdtGpa = place(dsdt(machine));
  const listed = [
    place(fadt(dsdtGpa, machine.legacyPm1a ?? false)),
    place(madt(machine)),
    place(mcfg(machine)),
  ];
  if (machine.tpm) listed.push(place(tpm2()));
  if (machine.numaNodes !== undefined && machine.numaNodes.length > 0) {
    listed.push(place(srat(machine)), place(slit(machine)));
  }
  if (machine.iommu !== undefined) listed.push(place(viot(machine.iommu.device, machine.iommu.endpoints)));
  const xsdtGpa = place(xsdt(listed));
  if (next > SMBIOS_START) {
    throw chainedError(
      "acpi",
      "Error creating ACPI tables",
      `ACPI tables of ${next - RSDP_START} bytes do not fit below 0x${SMBIOS_START.toString(16)}`,
    );
  }
  return {
    rsdpGpa: RSDP_START,
    tables,
    blobs: [
      { gpa: RSDP_START, bytes: rsdp(xsdtGpa) },
      ...tables.map(({ gpa, bytes }) => ({ gpa, bytes })),
    ],
  };
}

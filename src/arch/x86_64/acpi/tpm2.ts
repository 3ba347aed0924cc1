/**
 * TPM2 table: a command response buffer at the TPM's fixed address.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §6; TCG ACPI Specification 1.3 §7.3.
 */
import { ByteWriter } from "@vmm/arch/x86_64/byte_writer.ts";
import { TPM_START } from "@vmm/arch/x86_64/layout.ts";
import { type AcpiTable, sdt } from "./sdt.ts";

const REVISION = 3;
/** Control area of the CRB interface. */
const CONTROL_AREA_OFFSET = 0x40;
const START_METHOD_CRB = 7;

/** TPM2 table. */
export function tpm2(): AcpiTable {
  const body = new ByteWriter().u32(0).u64(TPM_START + CONTROL_AREA_OFFSET).u32(START_METHOD_CRB);
  return sdt({ signature: "TPM2", revision: REVISION, oemTableId: "CHTPM2" }, body.take());
}

/**
 * System description tables: header, checksum.
 *
 * L2, any isolate; pure. Source: ACPI 6.5 §5.2.6; OEM fields as the original's.
 */
import { ByteWriter, checksum8 } from "@vmm/arch/x86_64/byte_writer.ts";

export const OEM_ID = "CLOUDH";
const CREATOR_ID = "RVAT";
const CREATOR_REVISION = 0x0100_0000;
export const SDT_HEADER_BYTES = 36;
const LENGTH_AT = 4;
const CHECKSUM_AT = 9;

/** What differs between table headers. */
export interface SdtHeader {
  readonly signature: string;
  readonly revision: number;
  /** Eight characters. */
  readonly oemTableId: string;
  readonly oemRevision?: number;
}

/** A finished table. */
export interface AcpiTable {
  readonly signature: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** A table with its header, length and checksum around `body`. */
export function sdt(header: SdtHeader, body: Uint8Array): AcpiTable {
  const bytes = new ByteWriter()
    .ascii(header.signature, 4)
    .u32(SDT_HEADER_BYTES + body.length)
    .u8(header.revision, 0)
    .ascii(OEM_ID)
    .ascii(header.oemTableId, 8, 0x20)
    .u32(header.oemRevision ?? 1)
    .ascii(CREATOR_ID)
    .u32(CREATOR_REVISION)
    .bytes(body)
    .take();
  new DataView(bytes.buffer).setUint32(LENGTH_AT, bytes.length, true);
  bytes[CHECKSUM_AT] = checksum8(bytes);
  return { signature: header.signature, bytes };
}

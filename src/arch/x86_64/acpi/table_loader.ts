/**
 * ACPI tables for firmware that places them itself: a file of tables, an RSDP, and the commands that link them.
 *
 * L2, any isolate; pure. Source: QEMU hw/acpi/bios-linker-loader.c (the interface is described in its opening comment).
 */
import { ByteWriter } from "@vmm/arch/x86_64/byte_writer.ts";
import type { AcpiTables } from "./tables.ts";

/** Names of the files, as firmware knows them. */
export const TABLE_LOADER_FILE = "etc/table-loader";
export const RSDP_FILE = "acpi/rsdp";
export const TABLES_FILE = "acpi/tables";

/** The three files. */
export interface LoadableTables {
  readonly loader: Uint8Array<ArrayBuffer>;
  readonly rsdp: Uint8Array<ArrayBuffer>;
  readonly tables: Uint8Array<ArrayBuffer>;
}

const COMMAND_BYTES = 128;
const NAME_BYTES = 56;
const ALLOCATE = 1;
const ADD_POINTER = 2;
const ADD_CHECKSUM = 3;
const ZONE_HIGH = 1;
/** Below 1 MiB, where an operating system looks for the RSDP. */
const ZONE_LOW = 2;
const ALIGNMENT = 4;
const POINTER_BYTES = 8;

const TABLE_CHECKSUM_AT = 9;
const TABLE_HEADER_BYTES = 36;
const FADT_X_DSDT_AT = 140;
const RSDP_XSDT_AT = 24;
const RSDP_CHECKSUM_AT = 8;
const RSDP_V1_BYTES = 20;
const RSDP_EXTENDED_CHECKSUM_AT = 32;
const RSDP_BYTES = 36;

/** A command of the loader, padded to its fixed length. */
function command(code: number, ...fields: (string | readonly [bytes: 1 | 4, value: number])[]): Uint8Array {
  const writer = new ByteWriter().u32(code);
  for (const field of fields) {
    if (typeof field === "string") writer.ascii(field, NAME_BYTES);
    else if (field[0] === 1) writer.u8(field[1]);
    else writer.u32(field[1]);
  }
  return writer.zeros(COMMAND_BYTES - writer.length).take();
}

/** Makes the files of placed tables: pointers become offsets, their checksums zero, for the firmware to complete. */
export function loadableTables(placed: AcpiTables): LoadableTables {
  const base = placed.tables[0].gpa;
  const tables = new ByteWriter();
  for (const { bytes } of placed.tables) tables.bytes(bytes);
  const file = tables.take();
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const rsdp = placed.blobs[0].bytes.slice();
  const commands = [
    command(ALLOCATE, RSDP_FILE, [4, ALIGNMENT], [1, ZONE_LOW]),
    command(ALLOCATE, TABLES_FILE, [4, ALIGNMENT], [1, ZONE_HIGH]),
  ];
  const relocate = (target: DataView, name: string, at: number) => {
    target.setBigUint64(at, target.getBigUint64(at, true) - BigInt(base), true);
    commands.push(command(ADD_POINTER, name, TABLES_FILE, [4, at], [1, POINTER_BYTES]));
  };
  const checksum = (target: DataView, name: string, at: number, start: number, length: number) => {
    target.setUint8(at, 0);
    commands.push(command(ADD_CHECKSUM, name, [4, at], [4, start], [4, length]));
  };
  for (const { signature, gpa, bytes } of placed.tables) {
    const start = gpa - base;
    if (signature === "FACP") relocate(view, TABLES_FILE, start + FADT_X_DSDT_AT);
    else if (signature === "XSDT") {
      for (let at = TABLE_HEADER_BYTES; at < bytes.length; at += POINTER_BYTES) {
        relocate(view, TABLES_FILE, start + at);
      }
    } else continue;
    checksum(view, TABLES_FILE, start + TABLE_CHECKSUM_AT, start, bytes.length);
  }
  const rsdpView = new DataView(rsdp.buffer, rsdp.byteOffset, rsdp.byteLength);
  relocate(rsdpView, RSDP_FILE, RSDP_XSDT_AT);
  checksum(rsdpView, RSDP_FILE, RSDP_CHECKSUM_AT, 0, RSDP_V1_BYTES);
  checksum(rsdpView, RSDP_FILE, RSDP_EXTENDED_CHECKSUM_AT, 0, RSDP_BYTES);
  const loader = new ByteWriter();
  for (const bytes of commands) loader.bytes(bytes);
  return { loader: loader.take(), rsdp: rsdp as Uint8Array<ArrayBuffer>, tables: file };
}

/**
 * The fixed structures of a VHDX image: headers, region tables, metadata.
 *
 * L4, pure. Numbers are little-endian. Source: MS-VHDX 8.0 §2.2, §2.6.
 */
import { ImageFault } from "../disk_error.ts";
import { crc32c } from "./crc32c.ts";

const KIB = 1 << 10;
/** Regions, blocks and the log lie at multiples of this. */
export const ALIGNMENT_BYTES = 1 << 20;
/** Where the two headers and the two region tables are. */
export const HEADER_OFFSETS = [64 * KIB, 128 * KIB] as const;
export const HEADER_BYTES = 4 * KIB;
export const REGION_TABLE_OFFSETS = [192 * KIB, 256 * KIB] as const;
export const REGION_TABLE_BYTES = 64 * KIB;
const METADATA_TABLE_BYTES = 64 * KIB;

/** Field offsets of a header. */
export const HeaderField = {
  signature: 0,
  checksum: 4,
  sequenceNumber: 8,
  fileWriteGuid: 16,
  dataWriteGuid: 32,
  logGuid: 48,
  logVersion: 64,
  version: 66,
  logLength: 68,
  logOffset: 72,
} as const;
const GUID_BYTES = 16;
const CHECKSUM_AT = 4;

const BAT_REGION = "2dc27766-f623-4200-9d64-115e9bfd4a08";
const METADATA_REGION = "8b7ca206-4790-4b9a-b8fe-575f050f886e";
const FILE_PARAMETERS = "caa16737-fa36-4d43-b3b6-33f0aa44e76b";
const VIRTUAL_DISK_SIZE = "2fa54224-cd1b-4876-b211-5dbed83bf4b8";
const LOGICAL_SECTOR_SIZE = "8141bf1d-a96f-4709-ba47-f233a8faab5f";
const PHYSICAL_SECTOR_SIZE = "cda348c7-445d-4471-9cc9-e9885251c556";
const PAGE_83_DATA = "beca12ab-b2e6-4523-93ef-c309e000c746";
const KNOWN_ITEMS = [
  FILE_PARAMETERS,
  VIRTUAL_DISK_SIZE,
  LOGICAL_SECTOR_SIZE,
  PHYSICAL_SECTOR_SIZE,
  PAGE_83_DATA,
];

const REGION_ENTRY_BYTES = 32;
const MAX_REGIONS = 2047;
const ITEM_ENTRY_BYTES = 32;
const MAX_ITEMS = 2047;
const ITEM_REQUIRED = 4;
const REGION_REQUIRED = 1;
const HAS_PARENT = 2;
const MIN_BLOCK_BYTES = 1 << 20;
const MAX_BLOCK_BYTES = 256 << 20;
const MAX_DISK_BYTES = 2 ** 46;

/** A valid header. */
export interface VhdxHeader {
  /** Index in `HEADER_OFFSETS`. */
  readonly index: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly sequenceNumber: bigint;
  /** Undefined when the log is empty. */
  readonly logGuid: Uint8Array | undefined;
  readonly logOffset: number;
  readonly logLength: number;
}

/** A range of the file. */
export interface Region {
  readonly offset: number;
  readonly lengthBytes: number;
}

/** What the metadata says of the disk. */
export interface VhdxGeometry {
  readonly sizeBytes: number;
  readonly blockBytes: number;
  readonly logicalSectorBytes: number;
}

/** The header in force: of the valid ones the one with the higher sequence number. @throws ImageFault */
export function currentHeader(copies: readonly Uint8Array<ArrayBuffer>[]): VhdxHeader {
  let best: VhdxHeader | undefined;
  copies.forEach((bytes, index) => {
    const header = parseHeader(bytes, index);
    if (header !== undefined && (best === undefined || header.sequenceNumber > best.sequenceNumber)) {
      best = header;
    }
  });
  if (best === undefined) throw new ImageFault("Invalid format", "No valid VHDX header");
  return best;
}

function parseHeader(bytes: Uint8Array<ArrayBuffer>, index: number): VhdxHeader | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (textAt(bytes, 0, 4) !== "head" || view.getUint32(CHECKSUM_AT, true) !== crc32c(bytes, CHECKSUM_AT)) {
    return undefined;
  }
  if (view.getUint16(HeaderField.version, true) !== 1) return undefined;
  const logGuid = bytes.slice(HeaderField.logGuid, HeaderField.logGuid + GUID_BYTES);
  return {
    index,
    bytes,
    sequenceNumber: view.getBigUint64(HeaderField.sequenceNumber, true),
    logGuid: logGuid.some((byte) => byte !== 0) ? logGuid : undefined,
    logOffset: Number(view.getBigUint64(HeaderField.logOffset, true)),
    logLength: view.getUint32(HeaderField.logLength, true),
  };
}

/** The bytes of the header that follows `header`: higher number, new write identifiers, empty log. */
export function nextHeader(header: VhdxHeader): Uint8Array<ArrayBuffer> {
  const bytes = header.bytes.slice();
  const view = new DataView(bytes.buffer);
  view.setBigUint64(HeaderField.sequenceNumber, header.sequenceNumber + 1n, true);
  crypto.getRandomValues(bytes.subarray(HeaderField.fileWriteGuid, HeaderField.fileWriteGuid + GUID_BYTES));
  crypto.getRandomValues(bytes.subarray(HeaderField.dataWriteGuid, HeaderField.dataWriteGuid + GUID_BYTES));
  bytes.fill(0, HeaderField.logGuid, HeaderField.logGuid + GUID_BYTES);
  view.setUint32(CHECKSUM_AT, crc32c(bytes, CHECKSUM_AT), true);
  return bytes;
}

/** The two regions every image has. @throws ImageFault */
export function parseRegions(
  copies: readonly Uint8Array[],
): { readonly bat: Region; readonly metadata: Region } {
  const valid = copies.find((bytes) =>
    textAt(bytes, 0, 4) === "regi" &&
    viewOf(bytes).getUint32(CHECKSUM_AT, true) === crc32c(bytes, CHECKSUM_AT)
  );
  if (valid === undefined) throw new ImageFault("Invalid format", "No valid VHDX region table");
  const view = viewOf(valid);
  const count = view.getUint32(8, true);
  if (count > MAX_REGIONS) throw new ImageFault("Invalid format", "Too many VHDX regions");
  const regions = new Map<string, Region>();
  for (let at = 16; at < 16 + count * REGION_ENTRY_BYTES; at += REGION_ENTRY_BYTES) {
    const guid = guidAt(view, at);
    const offset = Number(view.getBigUint64(at + 16, true));
    const lengthBytes = view.getUint32(at + 24, true);
    const isRequired = (view.getUint32(at + 28, true) & REGION_REQUIRED) !== 0;
    if (guid !== BAT_REGION && guid !== METADATA_REGION) {
      if (isRequired) throw new ImageFault("Unsupported feature", `VHDX region ${guid} is not supported`);
      continue;
    }
    if (regions.has(guid)) throw new ImageFault("Invalid format", "A VHDX region is listed twice");
    if (offset < ALIGNMENT_BYTES || offset % ALIGNMENT_BYTES !== 0 || lengthBytes % ALIGNMENT_BYTES !== 0) {
      throw new ImageFault("Invalid format", "A VHDX region is not aligned");
    }
    regions.set(guid, { offset, lengthBytes });
  }
  const bat = regions.get(BAT_REGION);
  const metadata = regions.get(METADATA_REGION);
  if (bat === undefined || metadata === undefined) {
    throw new ImageFault("Invalid format", "A VHDX region is missing");
  }
  return { bat, metadata };
}

/** The disk's geometry. `read` gives bytes of the metadata region. @throws ImageFault */
export function parseMetadata(read: (offset: number, lengthBytes: number) => Uint8Array): VhdxGeometry {
  const table = read(0, METADATA_TABLE_BYTES);
  const view = viewOf(table);
  if (textAt(table, 0, 8) !== "metadata") {
    throw new ImageFault("Invalid format", "Metadata sign doesn't match");
  }
  const count = view.getUint16(10, true);
  if (count > MAX_ITEMS) throw new ImageFault("Invalid format", "Invalid metadata entry count");
  const items = new Map<string, Uint8Array>();
  for (let at = 32; at < 32 + count * ITEM_ENTRY_BYTES; at += ITEM_ENTRY_BYTES) {
    const id = guidAt(view, at);
    const offset = view.getUint32(at + 16, true);
    const lengthBytes = view.getUint32(at + 20, true);
    const isRequired = (view.getUint32(at + 24, true) & ITEM_REQUIRED) !== 0;
    if (!KNOWN_ITEMS.includes(id)) {
      if (isRequired) throw new ImageFault("Unsupported feature", `VHDX metadata ${id} is not supported`);
      continue;
    }
    if (offset < METADATA_TABLE_BYTES || lengthBytes > METADATA_TABLE_BYTES) {
      throw new ImageFault("Invalid format", "Invalid metadata length");
    }
    items.set(id, read(offset, lengthBytes));
  }
  const need = (id: string, lengthBytes: number): DataView => {
    const item = items.get(id);
    if (item === undefined) throw new ImageFault("Invalid format", "Not all required metadata found");
    if (item.byteLength < lengthBytes) throw new ImageFault("Invalid format", "Invalid metadata length");
    return viewOf(item);
  };
  const parameters = need(FILE_PARAMETERS, 8);
  const blockBytes = parameters.getUint32(0, true);
  if (blockBytes < MIN_BLOCK_BYTES || blockBytes > MAX_BLOCK_BYTES || !isPowerOfTwo(blockBytes)) {
    throw new ImageFault("Invalid format", "Invalid block size count");
  }
  if ((parameters.getUint32(4, true) & HAS_PARENT) !== 0) {
    throw new ImageFault("Unsupported feature", "Differencing VHDX images are not supported");
  }
  const logicalSectorBytes = need(LOGICAL_SECTOR_SIZE, 4).getUint32(0, true);
  if (logicalSectorBytes !== 512 && logicalSectorBytes !== 4096) {
    throw new ImageFault("Invalid format", "Invalid logical sector size");
  }
  const sizeBytes = Number(need(VIRTUAL_DISK_SIZE, 8).getBigUint64(0, true));
  if (sizeBytes === 0 || sizeBytes > MAX_DISK_BYTES || sizeBytes % logicalSectorBytes !== 0) {
    throw new ImageFault("Invalid format", "Invalid value");
  }
  return { sizeBytes, blockBytes, logicalSectorBytes };
}

/** A GUID as text, from its mixed-endian bytes. */
function guidAt(view: DataView, at: number): string {
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, "0");
  const tail = (from: number, to: number) => {
    let text = "";
    for (let i = from; i < to; i++) text += hex(view.getUint8(at + i), 2);
    return text;
  };
  return [
    hex(view.getUint32(at, true), 8),
    hex(view.getUint16(at + 4, true), 4),
    hex(view.getUint16(at + 6, true), 4),
    tail(8, 10),
    tail(10, 16),
  ].join("-");
}

const isPowerOfTwo = (value: number) => (value & (value - 1)) === 0;
const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** ASCII bytes as text. */
export function textAt(bytes: Uint8Array, at: number, length: number): string {
  return String.fromCharCode(...bytes.subarray(at, at + length));
}

/**
 * The header of a qcow2 image, version 2 or 3.
 *
 * L4, pure. Everything in an image is the word of whoever made it: sizes are limited, offsets checked.
 * Source: QEMU docs/interop/qcow2.txt "Header", "Header extensions".
 */
import { ImageFault } from "../disk_error.ts";

/** Field offsets; all numbers are big-endian. */
export const HeaderField = {
  magic: 0,
  version: 4,
  backing_file_offset: 8,
  backing_file_size: 16,
  cluster_bits: 20,
  size: 24,
  crypt_method: 32,
  l1_size: 36,
  l1_table_offset: 40,
  refcount_table_offset: 48,
  refcount_table_clusters: 56,
  nb_snapshots: 60,
  snapshots_offset: 64,
  incompatible_features: 72,
  compatible_features: 80,
  autoclear_features: 88,
  refcount_order: 96,
  header_length: 100,
  compression_type: 104,
} as const;

/** Most bytes of the image the header can need: one cluster of the largest size is never read whole. */
export const HEADER_READ_BYTES = 64 << 10;
const HEADER_BYTES_V2 = 72;
const HEADER_BYTES_V3 = 104;
const MAGIC = 0x5146_49fb;
const MIN_CLUSTER_BITS = 9;
const MAX_CLUSTER_BITS = 21;
/** Limits QEMU has as well. */
export const MAX_L1_BYTES = 32 << 20;
const MAX_REFCOUNT_TABLE_BYTES = 8 << 20;
const MAX_BACKING_NAME_BYTES = 1023;
const MAX_SNAPSHOTS = 65536;
/** Numbers up to here are exact, and far beyond any file system. */
const MAX_SIZE_BYTES = 2 ** 52;
const ENTRY_BYTES = 8;

/** Incompatible feature bits. */
export const INCOMPATIBLE_DIRTY = 1;
export const INCOMPATIBLE_CORRUPT = 2;
const INCOMPATIBLE_EXTERNAL_DATA = 4;
export const INCOMPATIBLE_COMPRESSION_TYPE = 8;
const INCOMPATIBLE_EXTENDED_L2 = 16;
const KNOWN_INCOMPATIBLE = INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT | INCOMPATIBLE_COMPRESSION_TYPE;

const EXTENSION_END = 0;
const EXTENSION_BACKING_FORMAT = 0xe279_2aca;

/** How compressed clusters are packed. */
export type Compression = "zlib" | "zstd";

/** A checked header. Offsets and sizes in bytes. */
export interface Qcow2Header {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  readonly sizeBytes: number;
  readonly l1Size: number;
  readonly l1Offset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  readonly refcountOrder: number;
  readonly snapshotCount: number;
  readonly snapshotsOffset: number;
  readonly compression: Compression;
  /** The feature bit that announces the compression type is set. */
  readonly hasCompressionType: boolean;
  readonly isDirty: boolean;
  readonly isCorrupt: boolean;
  /** Some autoclear feature is set: writing the image without knowing it means clearing it. */
  readonly hasAutoclear: boolean;
  readonly backingName: string | undefined;
  /** `raw`, `qcow2`, or anything else QEMU knows; undefined when not said. */
  readonly backingFormat: string | undefined;
}

/** Reads the header out of the first bytes of an image. @throws ImageFault */
export function parseHeader(bytes: Uint8Array): Qcow2Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.byteLength < HEADER_BYTES_V2 || view.getUint32(HeaderField.magic) !== MAGIC) {
    throw invalid("Invalid magic");
  }
  const version = view.getUint32(HeaderField.version);
  if (version !== 2 && version !== 3) throw unsupported(`Unsupported version: ${version}`);
  if (version === 3 && bytes.byteLength < HEADER_BYTES_V3) throw invalid("Header is cut off");
  const clusterBits = view.getUint32(HeaderField.cluster_bits);
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS) throw invalid("Invalid cluster size");
  const clusterBytes = 2 ** clusterBits;
  if (view.getUint32(HeaderField.crypt_method) !== 0) throw unsupported("Encrypted images are not supported");
  const sizeBytes = u64(view, HeaderField.size);
  if (sizeBytes > MAX_SIZE_BYTES) throw invalid(`File larger than max of ${MAX_SIZE_BYTES}: ${sizeBytes}`);

  const features = version === 3 ? parseFeatures(view) : V2_FEATURES;
  const l1Size = view.getUint32(HeaderField.l1_size);
  if (l1Size * ENTRY_BYTES > MAX_L1_BYTES) throw invalid(`L1 entry table too large: ${l1Size}`);
  const bytesPerL1Entry = clusterBytes * (clusterBytes / ENTRY_BYTES);
  if (l1Size < Math.ceil(sizeBytes / bytesPerL1Entry)) throw invalid(`Invalid L1 table size: ${l1Size}`);
  const refcountTableClusters = view.getUint32(HeaderField.refcount_table_clusters);
  if (refcountTableClusters === 0) throw invalid("No refcount clusters");
  if (refcountTableClusters * clusterBytes > MAX_REFCOUNT_TABLE_BYTES) {
    throw invalid(`Ref count table too large: ${refcountTableClusters}`);
  }
  const snapshotCount = view.getUint32(HeaderField.nb_snapshots);
  if (snapshotCount > MAX_SNAPSHOTS) throw invalid(`Too many snapshots: ${snapshotCount}`);
  return {
    version,
    clusterBits,
    sizeBytes,
    l1Size,
    l1Offset: tableOffset(
      view,
      HeaderField.l1_table_offset,
      clusterBytes,
      "Invalid L1 table offset",
      l1Size === 0,
    ),
    refcountTableOffset: tableOffset(
      view,
      HeaderField.refcount_table_offset,
      clusterBytes,
      "Invalid refcount table offset",
      false,
    ),
    refcountTableClusters,
    snapshotCount,
    snapshotsOffset: tableOffset(
      view,
      HeaderField.snapshots_offset,
      clusterBytes,
      "Invalid snapshot table offset",
      snapshotCount === 0,
    ),
    ...features,
    ...parseBacking(bytes, view, features.headerBytes, clusterBytes),
  };
}

type Features =
  & Pick<
    Qcow2Header,
    "refcountOrder" | "compression" | "hasCompressionType" | "isDirty" | "isCorrupt" | "hasAutoclear"
  >
  & { readonly headerBytes: number };

const V2_FEATURES: Features = {
  refcountOrder: 4,
  compression: "zlib",
  hasCompressionType: false,
  isDirty: false,
  isCorrupt: false,
  hasAutoclear: false,
  headerBytes: HEADER_BYTES_V2,
};

function parseFeatures(view: DataView): Features {
  const incompatible = view.getUint32(HeaderField.incompatible_features + 4);
  const headerBytes = view.getUint32(HeaderField.header_length);
  if (headerBytes < HEADER_BYTES_V3 || headerBytes > view.byteLength) throw invalid("Invalid header length");
  if ((incompatible & INCOMPATIBLE_EXTERNAL_DATA) !== 0) {
    throw unsupported("External data files are not supported");
  }
  if ((incompatible & INCOMPATIBLE_EXTENDED_L2) !== 0) {
    throw unsupported("Extended L2 entries are not supported");
  }
  if ((incompatible & ~KNOWN_INCOMPATIBLE) !== 0 || view.getUint32(HeaderField.incompatible_features) !== 0) {
    throw unsupported("Unsupported qcow2 feature(s)");
  }
  const refcountOrder = view.getUint32(HeaderField.refcount_order);
  if (refcountOrder > 6) throw unsupported("Unsupported refcount order");
  const hasType = (incompatible & INCOMPATIBLE_COMPRESSION_TYPE) !== 0;
  const type = hasType && headerBytes > HeaderField.compression_type
    ? view.getUint8(HeaderField.compression_type)
    : 0;
  if (type > 1) throw unsupported("Unsupported compression type");
  return {
    refcountOrder,
    compression: type === 1 ? "zstd" : "zlib",
    hasCompressionType: hasType,
    isDirty: (incompatible & INCOMPATIBLE_DIRTY) !== 0,
    isCorrupt: (incompatible & INCOMPATIBLE_CORRUPT) !== 0,
    hasAutoclear: u64(view, HeaderField.autoclear_features) !== 0,
    headerBytes,
  };
}

/** Name of the image below, and its format from the header extensions. */
function parseBacking(
  bytes: Uint8Array,
  view: DataView,
  headerBytes: number,
  clusterBytes: number,
): Pick<Qcow2Header, "backingName" | "backingFormat"> {
  const offset = u64(view, HeaderField.backing_file_offset);
  const length = view.getUint32(HeaderField.backing_file_size);
  let backingName: string | undefined;
  if (offset !== 0) {
    const where = `Backing file name at offset 0x${offset.toString(16)} length 0x${length.toString(16)}`;
    if (length === 0) throw invalid(`Backing file offset 0x${offset.toString(16)} with zero size`);
    if (length > MAX_BACKING_NAME_BYTES) {
      throw invalid(`Backing file name is too long: ${length - MAX_BACKING_NAME_BYTES} bytes over`);
    }
    if (offset < headerBytes) throw invalid(`${where} overlaps header`);
    if (offset + length > Math.min(clusterBytes, bytes.byteLength)) {
      throw invalid(`${where} lies outside first cluster`);
    }
    backingName = decodeName(bytes.subarray(offset, offset + length));
  }
  const end = offset === 0 ? Math.min(clusterBytes, bytes.byteLength) : offset;
  return { backingName, backingFormat: backingFormat(bytes, view, headerBytes, end) };
}

function backingFormat(bytes: Uint8Array, view: DataView, start: number, end: number): string | undefined {
  for (let at = start; at + 8 <= end;) {
    const type = view.getUint32(at);
    const length = view.getUint32(at + 4);
    if (type === EXTENSION_END) break;
    if (at + 8 + length > end) {
      const where = `Header extension at 0x${at.toString(16)} declares ${length} bytes`;
      throw invalid(`${where}, past the extension area ending at 0x${end.toString(16)}`);
    }
    if (type === EXTENSION_BACKING_FORMAT) return decodeName(bytes.subarray(at + 8, at + 8 + length));
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return undefined;
}

function decodeName(bytes: Uint8Array): string {
  let name: string;
  try {
    name = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw invalid("Failed to parse filename");
  }
  if (name.includes("\0")) throw invalid("Failed to parse filename");
  return name;
}

function tableOffset(
  view: DataView,
  field: number,
  clusterBytes: number,
  message: string,
  mayBeAbsent: boolean,
): number {
  const offset = u64(view, field);
  if (mayBeAbsent) return offset % clusterBytes === 0 && offset < MAX_SIZE_BYTES ? offset : 0;
  if (offset === 0 || offset % clusterBytes !== 0 || offset > MAX_SIZE_BYTES) throw invalid(message);
  return offset;
}

/** A big-endian 64-bit number; above 2^53 only roughly right. */
function u64(view: DataView, at: number): number {
  return view.getUint32(at) * 0x1_0000_0000 + view.getUint32(at + 4);
}

const invalid = (message: string) => new ImageFault("Invalid format", message);
const unsupported = (message: string) => new ImageFault("Unsupported feature", message);

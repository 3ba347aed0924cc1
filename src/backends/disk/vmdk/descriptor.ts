/**
 * The text that describes a flat VMDK image: a header, extent lines, the disk data base.
 *
 * L4, pure. Source: VMware Virtual Disk Format 5.0, "The Descriptor File".
 */

const HEADER_LINE = "# Disk DescriptorFile";
const EXTENTS_LINE = "# Extent description";
const DATABASE_LINES = ["# The Disk Data Base", "#DDB"];
const FLAT_TYPES = ["monolithicFlat", "twoGbMaxExtentFlat"];
const SECTOR_BYTES = 512;

/** Largest descriptor that is read; real ones have a few hundred bytes and about 60 for each 2 GiB of disk. */
export const MAX_DESCRIPTOR_BYTES = 4 << 20;

/** One extent line: `<access> <sectors> <type> "<file>" [offset]`. */
export interface VmdkExtent {
  readonly access: "RW" | "RDONLY" | "NOACCESS";
  readonly lengthBytes: number;
  readonly type: string;
  /** As written: relative to the descriptor's directory unless absolute. */
  readonly fileName: string;
  readonly fileOffset: number;
}

/** A descriptor file. */
export interface VmdkDescriptor {
  readonly createType: string;
  readonly extents: readonly VmdkExtent[];
}

/** True if a file that begins with these bytes may be a descriptor. */
export function looksLikeDescriptor(start: Uint8Array): boolean {
  for (let i = 0; i < HEADER_LINE.length; i++) {
    if (start[i] !== HEADER_LINE.charCodeAt(i)) return false;
  }
  return true;
}

/** Reads a descriptor; the reason as a text when it is not one. */
export function parseDescriptor(bytes: Uint8Array): VmdkDescriptor | string {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return "VMDK descriptor is not valid UTF-8";
  }
  const lines = text.split(/\r?\n/);
  if (lines[0].trimEnd() !== HEADER_LINE) return `Not a VMDK descriptor file: missing header: ${lines[0]}`;
  let createType = "";
  let at = 1;
  for (; at < lines.length && !lines[at].startsWith("#"); at++) {
    const [key, value, ...more] = lines[at].split("=").map((word) => word.trim());
    if (key === "createType" && value !== undefined && more.length === 0) {
      createType = value.replaceAll('"', "");
    }
  }
  if (lines[at]?.trimEnd() !== EXTENTS_LINE) return "Expected the extents section comment line";
  const extents: VmdkExtent[] = [];
  for (at++; at < lines.length; at++) {
    const line = lines[at].trim();
    if (line === "") continue;
    if (line.startsWith("#")) {
      if (DATABASE_LINES.includes(line)) break;
      return "Expected the DDB section comment line";
    }
    const extent = parseExtent(line);
    if (typeof extent === "string") return extent;
    extents.push(extent);
  }
  return { createType, extents };
}

/** True for the kinds this program can use: whole flat files only. */
export function isFlat(descriptor: VmdkDescriptor): boolean {
  return FLAT_TYPES.includes(descriptor.createType) &&
    descriptor.extents.every((extent) => extent.type === "FLAT");
}

function parseExtent(line: string): VmdkExtent | string {
  const match = /^(\S+)\s+(\S+)\s+(\S+)\s+("[^"]*"|\S+)(?:\s+(\S+))?$/.exec(line);
  if (match === null) return "Malformed VMDK extent line";
  const [, access, sectors, type, name, offset] = match;
  if (access !== "RW" && access !== "RDONLY" && access !== "NOACCESS") {
    return `unsupported VMDK extent access mode '${access}'`;
  }
  const lengthBytes = sectorCount(sectors);
  if (lengthBytes === undefined) return `VMDK extent size '${sectors}' is not a valid sector count`;
  const fileOffset = sectorCount(offset ?? "0");
  if (fileOffset === undefined) return `VMDK extent offset '${offset}' is not a valid sector count`;
  return { access, lengthBytes, type, fileName: name.replaceAll('"', ""), fileOffset };
}

function sectorCount(text: string): number | undefined {
  if (!/^\+?\d+$/.test(text)) return undefined;
  const bytes = Number(text) * SECTOR_BYTES;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

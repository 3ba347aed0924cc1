/**
 * The footer in the last sector of a VHD image.
 *
 * L4, pure. Source: Virtual Hard Disk Image Format Specification 1.0, "Hard Disk Footer Format".
 */

/** Size of the footer in bytes. */
export const VHD_FOOTER_BYTES = 512;

/** Fields used here: byte offset in the footer, all big-endian. */
const AT = {
  cookie: 0,
  formatVersion: 12,
  dataOffset: 16,
  currentSize: 48,
  diskType: 60,
  checksum: 64,
} as const;
const COOKIE_HIGH = 0x636f6e65; // "cone"
const COOKIE_LOW = 0x63746978; // "ctix"
const FORMAT_VERSION = 0x0001_0000;
const ALL_ONES = 0xffff_ffff;
const DISK_TYPE_FIXED = 2;
const CHECKSUM_BYTES = 4;

/** The footer of a fixed image. */
export interface VhdFooter {
  /** Size of the virtual disk in bytes. */
  readonly sizeBytes: number;
}

/** One's complement of the sum of all bytes but the checksum's own. */
function footerChecksum(footer: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < VHD_FOOTER_BYTES; i++) {
    if (i < AT.checksum || i >= AT.checksum + CHECKSUM_BYTES) sum += footer[i];
  }
  return ~sum >>> 0;
}

/** The footer, or undefined when the 512 bytes are not the footer of a fixed image. */
export function parseFixedFooter(footer: Uint8Array): VhdFooter | undefined {
  if (footer.byteLength < VHD_FOOTER_BYTES) return undefined;
  const view = new DataView(footer.buffer, footer.byteOffset, VHD_FOOTER_BYTES);
  const isFixed = view.getUint32(AT.cookie) === COOKIE_HIGH && view.getUint32(AT.cookie + 4) === COOKIE_LOW &&
    view.getUint32(AT.formatVersion) === FORMAT_VERSION &&
    view.getUint32(AT.dataOffset) === ALL_ONES && view.getUint32(AT.dataOffset + 4) === ALL_ONES &&
    view.getUint32(AT.diskType) === DISK_TYPE_FIXED &&
    view.getUint32(AT.checksum) === footerChecksum(footer);
  if (!isFixed) return undefined;
  const sizeBytes = Number(view.getBigUint64(AT.currentSize));
  return Number.isSafeInteger(sizeBytes) ? { sizeBytes } : undefined;
}

/**
 * CRC-32C, the checksum of VHDX structures.
 *
 * L4, pure. Source: RFC 3720 appendix B.4 (Castagnoli polynomial, reflected).
 */

const POLYNOMIAL = 0x82f6_3b78;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ ((value & 1) === 1 ? POLYNOMIAL : 0);
  return value >>> 0;
});

/** Checksum of `bytes`, with the four bytes at `zeroedAt` taken as zeroes. */
export function crc32c(bytes: Uint8Array, zeroedAt = -1): number {
  let value = 0xffff_ffff;
  for (let i = 0; i < bytes.length; i++) {
    const byte = zeroedAt >= 0 && i >= zeroedAt && i < zeroedAt + 4 ? 0 : bytes[i];
    value = (value >>> 8) ^ TABLE[(value ^ byte) & 0xff];
  }
  return ~value >>> 0;
}

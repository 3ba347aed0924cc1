/**
 * Where bytes stop being UTF-8, in the words clients of the original know.
 *
 * L6, pure. Source: Unicode 15 table 3-7 (well-formed byte sequences); texts observed on the original.
 */

/** Lead byte ranges with the bounds of the second byte; third and fourth are always 80..BF. */
const SEQUENCES = [
  { from: 0xc2, to: 0xdf, length: 2, low: 0x80, high: 0xbf },
  { from: 0xe0, to: 0xe0, length: 3, low: 0xa0, high: 0xbf },
  { from: 0xe1, to: 0xec, length: 3, low: 0x80, high: 0xbf },
  { from: 0xed, to: 0xed, length: 3, low: 0x80, high: 0x9f },
  { from: 0xee, to: 0xef, length: 3, low: 0x80, high: 0xbf },
  { from: 0xf0, to: 0xf0, length: 4, low: 0x90, high: 0xbf },
  { from: 0xf1, to: 0xf3, length: 4, low: 0x80, high: 0xbf },
  { from: 0xf4, to: 0xf4, length: 4, low: 0x80, high: 0x8f },
];

/** What is wrong with `bytes`, or undefined if they are UTF-8. Never throws. */
export function utf8Fault(bytes: Uint8Array): string | undefined {
  for (let at = 0; at < bytes.length;) {
    const lead = bytes[at];
    if (lead < 0x80) {
      at++;
      continue;
    }
    const sequence = SEQUENCES.find(({ from, to }) => lead >= from && lead <= to);
    if (sequence === undefined) return `invalid utf-8 sequence of 1 bytes from index ${at}`;
    for (let offset = 1; offset < sequence.length; offset++) {
      if (at + offset >= bytes.length) return `incomplete utf-8 byte sequence from index ${at}`;
      const [low, high] = offset === 1 ? [sequence.low, sequence.high] : [0x80, 0xbf];
      const next = bytes[at + offset];
      if (next < low || next > high) return `invalid utf-8 sequence of ${offset} bytes from index ${at}`;
    }
    at += sequence.length;
  }
  return undefined;
}

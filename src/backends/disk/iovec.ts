/**
 * Slices of iovec lists: a request that has to be split, skipped into, or checked for alignment.
 *
 * L4, I/O Worker. No allocation once the views exist.
 */

/** Bytes of one entry: address (u64) and length (u64), little-endian. */
export const IOVEC_BYTES = 16;
/** Entries the kernel takes in one call (limits.h IOV_MAX). */
export const IOV_MAX = 1024;
const WORDS_PER_ENTRY = 4;
const WORD = 0x1_0000_0000;

const views = new WeakMap<ArrayBufferLike, Uint32Array>();

/** The words of the buffer an iovec list lies in. */
function wordsOf(iov: Uint8Array): Uint32Array {
  let words = views.get(iov.buffer);
  if (words === undefined) {
    words = new Uint32Array(iov.buffer, 0, iov.buffer.byteLength >> 2);
    views.set(iov.buffer, words);
  }
  return words;
}

/** True if every address and length in the list is a multiple of `alignment` (a power of two). */
export function isAligned(iov: Uint8Array, count: number, alignment: number): boolean {
  const words = wordsOf(iov);
  const mask = alignment - 1;
  const first = iov.byteOffset >> 2;
  for (let at = first; at < first + count * WORDS_PER_ENTRY; at += WORDS_PER_ENTRY) {
    if (((words[at] | words[at + 2]) & mask) !== 0) return false;
  }
  return true;
}

/** Part of an iovec list, as a list of its own of at most `IOV_MAX` entries. */
export class IovecSlice {
  /** The entries. */
  readonly bytes: Uint8Array<ArrayBuffer> = new Uint8Array(IOV_MAX * IOVEC_BYTES);
  readonly #words = new Uint32Array(this.bytes.buffer);
  /** Entries in use. */
  count = 0;
  /** Bytes they cover: less than asked for only if the list was longer than `IOV_MAX` entries, or ended. */
  lengthBytes = 0;

  /** Takes `lengthBytes` of `iov`, which has `count` entries, after skipping `skipBytes`. */
  set(iov: Uint8Array, count: number, skipBytes: number, lengthBytes: number): void {
    const from = wordsOf(iov);
    const to = this.#words;
    let at = iov.byteOffset >> 2;
    const end = at + count * WORDS_PER_ENTRY;
    let skip = skipBytes;
    while (at < end && skip >= from[at + 2]) {
      skip -= from[at + 2];
      at += WORDS_PER_ENTRY;
    }
    let out = 0;
    let wanted = lengthBytes;
    for (; at < end && wanted > 0 && out < to.length; at += WORDS_PER_ENTRY) {
      const size = Math.min(from[at + 2] - skip, wanted);
      if (size > 0) {
        const address = from[at] + from[at + 1] * WORD + skip;
        to[out] = address >>> 0;
        to[out + 1] = Math.floor(address / WORD);
        to[out + 2] = size;
        to[out + 3] = 0;
        out += WORDS_PER_ENTRY;
        wanted -= size;
      }
      skip = 0;
    }
    this.count = out / WORDS_PER_ENTRY;
    this.lengthBytes = lengthBytes - wanted;
  }

  /** Makes the slice one entry at a host address. */
  setSingle(address: number, lengthBytes: number): void {
    const to = this.#words;
    to[0] = address >>> 0;
    to[1] = Math.floor(address / WORD);
    to[2] = lengthBytes;
    to[3] = 0;
    this.count = 1;
    this.lengthBytes = lengthBytes;
  }
}

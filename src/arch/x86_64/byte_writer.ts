/**
 * Grows a little-endian byte string field by field, for tables without fixed size.
 *
 * L2, any isolate; pure.
 */

const INITIAL_CAPACITY_BYTES = 256;

/** Little-endian byte string under construction. Scalars are cut to their width, as C assignments are. */
export class ByteWriter {
  #bytes = new Uint8Array(INITIAL_CAPACITY_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  #reserve(count: number): number {
    const at = this.#length;
    const needed = at + count;
    if (needed > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
      grown.set(this.#bytes.subarray(0, at));
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.#length = needed;
    return at;
  }

  u8(...values: number[]): this {
    for (const value of values) this.#view.setUint8(this.#reserve(1), value);
    return this;
  }

  u16(...values: number[]): this {
    for (const value of values) this.#view.setUint16(this.#reserve(2), value, true);
    return this;
  }

  u32(...values: number[]): this {
    for (const value of values) this.#view.setUint32(this.#reserve(4), value, true);
    return this;
  }

  /** Non-negative integers below 2^53, or bigints. */
  u64(...values: (number | bigint)[]): this {
    for (const value of values) this.#view.setBigUint64(this.#reserve(8), BigInt(value), true);
    return this;
  }

  bytes(source: ArrayLike<number>): this {
    const at = this.#reserve(source.length);
    this.#bytes.set(source, at);
    return this;
  }

  /** ASCII text, cut or padded with `fill` to `width` bytes when given. */
  ascii(text: string, width = text.length, fill = 0): this {
    const at = this.#reserve(width);
    for (let i = 0; i < width; i++) {
      this.#bytes[at + i] = i < text.length ? text.charCodeAt(i) & 0x7f : fill;
    }
    return this;
  }

  zeros(count: number): this {
    this.#reserve(count);
    return this;
  }

  /** Overwrites one byte already written. */
  patchU8(at: number, value: number): this {
    this.#view.setUint8(at, value);
    return this;
  }

  /** Overwrites four bytes already written. */
  patchU32(at: number, value: number): this {
    this.#view.setUint32(at, value, true);
    return this;
  }

  /** A copy of what was written. */
  take(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#length);
  }
}

/** The byte that makes the sum of `bytes` and itself zero. */
export function checksum8(bytes: Uint8Array): number {
  let sum = 0;
  for (const byte of bytes) sum += byte;
  return -sum & 0xff;
}

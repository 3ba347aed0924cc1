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

  /** Appends `count` zero bytes and returns the view of the buffer as it is then. */
  #grow(count: number): DataView {
    const needed = this.#length + count;
    if (needed > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
      grown.set(this.#bytes);
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.#length = needed;
    return this.#view;
  }

  u8(...values: number[]): this {
    for (const value of values) this.#grow(1).setUint8(this.#length - 1, value);
    return this;
  }

  u16(...values: number[]): this {
    for (const value of values) this.#grow(2).setUint16(this.#length - 2, value, true);
    return this;
  }

  u32(...values: number[]): this {
    for (const value of values) this.#grow(4).setUint32(this.#length - 4, value, true);
    return this;
  }

  /** Non-negative integers below 2^53, or bigints. */
  u64(...values: (number | bigint)[]): this {
    for (const value of values) this.#grow(8).setBigUint64(this.#length - 8, BigInt(value), true);
    return this;
  }

  bytes(source: ArrayLike<number>): this {
    this.#grow(source.length);
    this.#bytes.set(source, this.#length - source.length);
    return this;
  }

  /** ASCII text, cut or padded with `fill` to `width` bytes when given. */
  ascii(text: string, width = text.length, fill = 0): this {
    this.#grow(width);
    const at = this.#length - width;
    for (let i = 0; i < width; i++) {
      this.#bytes[at + i] = i < text.length ? text.charCodeAt(i) & 0x7f : fill;
    }
    return this;
  }

  zeros(count: number): this {
    this.#grow(count);
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
  for (let i = 0; i < bytes.length; i++) sum += bytes[i];
  return -sum & 0xff;
}

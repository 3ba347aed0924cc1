/**
 * Counters of one device: 64-bit values that one thread writes and any thread reads, exactly.
 *
 * L1, any isolate. A sequence number around each update keeps readers from seeing half of it. Numbers are added, so the
 * writer allocates nothing; readers get bigints.
 */

/** Half of a 64-bit value. */
const WORD = 0x1_0000_0000;
const HEADER_WORDS = 2;
const MAX_ATTEMPTS = 100_000;

/** Names of a device's counters, in the order of `vm.counters`. */
export interface CounterLayout<N extends string> {
  readonly names: readonly N[];
  readonly sizeBytes: number;
  /** Index of each counter by name. */
  readonly at: Readonly<Record<N, number>>;
}

/** Lays out counters. */
export function defineCounters<const N extends string>(names: readonly N[]): CounterLayout<N> {
  const at = Object.fromEntries(names.map((name, index) => [name, index])) as Record<N, number>;
  return { names, sizeBytes: (HEADER_WORDS + 2 * names.length) * 4, at };
}

/** The writer's view. Updates stand between `begin` and `end`. */
export class CounterWriter {
  readonly #words: Uint32Array;
  readonly #sequence: Int32Array;

  constructor(buffer: SharedArrayBuffer) {
    this.#words = new Uint32Array(buffer);
    this.#sequence = new Int32Array(buffer, 0, 1);
  }

  /** Starts an update. */
  begin(): void {
    Atomics.add(this.#sequence, 0, 1);
  }

  /** Ends an update: readers see all of it. */
  end(): void {
    Atomics.add(this.#sequence, 0, 1);
  }

  /** Adds `amount`, an integer from 0 to 2^53−1; wraps at 2^64. */
  add(index: number, amount: number): void {
    const word = HEADER_WORDS + 2 * index;
    const low = this.#words[word] + amount % WORD;
    this.#words[word] = low;
    this.#words[word + 1] += Math.floor(amount / WORD) + (low >= WORD ? 1 : 0);
  }

  /** Sets a value, an integer from 0 to 2^53−1. */
  set(index: number, value: number): void {
    const word = HEADER_WORDS + 2 * index;
    this.#words[word] = value;
    this.#words[word + 1] = Math.floor(value / WORD);
  }

  /** Sets all 64 bits. */
  setAllOnes(index: number): void {
    const word = HEADER_WORDS + 2 * index;
    this.#words[word] = this.#words[word + 1] = WORD - 1;
  }

  /** The writer's own view of a value, rounded above 2^53. */
  get(index: number): number {
    const word = HEADER_WORDS + 2 * index;
    return this.#words[word] + this.#words[word + 1] * WORD;
  }
}

/** All values by name, as of one moment. */
export function readCounters<N extends string>(
  layout: CounterLayout<N>,
  buffer: SharedArrayBuffer,
): Record<N, bigint> {
  const sequence = new Int32Array(buffer, 0, 1);
  const copy = new Uint32Array(layout.sizeBytes / 4);
  const words = new Uint32Array(buffer, 0, copy.length);
  // Bounded: a writer that died in the middle of an update must not hang the reader.
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const before = Atomics.load(sequence, 0);
    copy.set(words);
    if ((before & 1) === 0 && Atomics.load(sequence, 0) === before) break;
  }
  const value = (index: number) =>
    BigInt(copy[HEADER_WORDS + 2 * index]) | BigInt(copy[HEADER_WORDS + 2 * index + 1]) << 32n;
  return Object.fromEntries(layout.names.map((name, index) => [name, value(index)])) as Record<N, bigint>;
}

/**
 * Shared blocks: the state of one device or one Worker as a table of named words over a SharedArrayBuffer.
 *
 * L1, any isolate. Each isolate attaches its own view to the same buffer; pause, save and reset work on the buffer alone.
 * Scalars take one 32-bit word each. Word 0 is the block's lock.
 */

/** A 32-bit word (unsigned), or an array of bytes or of 32-bit words. */
export type BlockField = "u32" | { u8: number } | { u32: number };

type FieldValue<T> = T extends "u32" ? number : T extends { u8: number } ? Uint8Array : Uint32Array;

/** A view of a block: each field by its name, plus the lock. */
export type SharedBlock<F extends Record<string, BlockField>> =
  & { -readonly [K in keyof F as F[K] extends "u32" ? K : never]: number }
  & { readonly [K in keyof F as F[K] extends "u32" ? never : K]: FieldValue<F[K]> }
  & BlockBase;

/** What every block has besides its fields. */
export interface BlockBase {
  /** The memory itself: send this to a Worker and `attach` there. */
  readonly buffer: SharedArrayBuffer;
  /** All words, for `Atomics` with an index from the layout. */
  readonly words: Int32Array;
  /** Takes the block's lock; several vCPUs may write guest-visible registers. Not reentrant; hold it for nanoseconds. */
  lock(): void;
  /** Gives the lock back. */
  unlock(): void;
}

/** A block's layout: makes and attaches views. */
export interface BlockLayout<F extends Record<string, BlockField>> {
  readonly name: string;
  readonly sizeBytes: number;
  /** Word index of each scalar (or of an array's first word), for `Atomics`. */
  readonly index: { readonly [K in keyof F]: number };
  /** A new zeroed block. */
  create(): SharedBlock<F>;
  /** The view of a block made elsewhere, the same one each time. @throws RangeError when the buffer is smaller than the layout */
  attach(buffer: SharedArrayBuffer): SharedBlock<F>;
}

/** The layout whose view type is wanted: `type Serial = BlockOf<typeof SerialBlock>`. */
export type BlockOf<L> = L extends BlockLayout<infer F> ? SharedBlock<F> : never;

const LOCK = 0;
const UNLOCKED = 0;
const LOCKED = 1;
const CONTENDED = 2;
const SPINS = 200;

/** Lays out a block. Field order is the memory order; arrays are aligned to 8 bytes. */
export function defineBlock<const F extends Record<string, BlockField>>(
  name: string,
  fields: F,
): BlockLayout<F> {
  let offset = 8; // the lock word and one of padding
  const index = {} as Record<keyof F, number>;

  class View {
    readonly buffer: SharedArrayBuffer;
    readonly words: Int32Array;
    readonly unsigned: Uint32Array;

    constructor(buffer: SharedArrayBuffer) {
      this.buffer = buffer;
      this.words = new Int32Array(buffer);
      this.unsigned = new Uint32Array(buffer);
      for (const [key, start, type] of arrays) {
        const array = "u8" in type
          ? new Uint8Array(buffer, start, type.u8)
          : new Uint32Array(buffer, start, (type as { u32: number }).u32);
        Object.defineProperty(this, key, { value: array, enumerable: true });
      }
    }

    lock(): void {
      if (Atomics.compareExchange(this.words, LOCK, UNLOCKED, LOCKED) === UNLOCKED) return;
      for (let spin = 0; spin < SPINS; spin++) {
        if (Atomics.compareExchange(this.words, LOCK, UNLOCKED, LOCKED) === UNLOCKED) return;
      }
      while (Atomics.exchange(this.words, LOCK, CONTENDED) !== UNLOCKED) {
        Atomics.wait(this.words, LOCK, CONTENDED);
      }
    }

    unlock(): void {
      if (Atomics.exchange(this.words, LOCK, UNLOCKED) === CONTENDED) Atomics.notify(this.words, LOCK, 1);
    }
  }

  const arrays: [string, number, Exclude<BlockField, "u32">][] = [];
  for (const [key, type] of Object.entries(fields)) {
    if (type !== "u32") offset = Math.ceil(offset / 8) * 8;
    index[key as keyof F] = offset >> 2;
    if (type === "u32") {
      const at = offset >> 2;
      Object.defineProperty(View.prototype, key, {
        get(this: View): number {
          return this.unsigned[at];
        },
        set(this: View, value: number) {
          this.unsigned[at] = value;
        },
      });
      offset += 4;
    } else {
      arrays.push([key, offset, type]);
      offset += "u8" in type ? Math.ceil(type.u8 / 4) * 4 : type.u32 * 4;
    }
  }
  const sizeBytes = Math.ceil(offset / 8) * 8;

  const views = new WeakMap<SharedArrayBuffer, SharedBlock<F>>();
  const attach = (buffer: SharedArrayBuffer) => {
    const known = views.get(buffer);
    if (known !== undefined) return known;
    if (buffer.byteLength < sizeBytes) {
      throw new RangeError(
        `Cannot attach "${name}" to ${buffer.byteLength} bytes: the layout needs ${sizeBytes}`,
      );
    }
    const view = new View(buffer) as unknown as SharedBlock<F>;
    views.set(buffer, view);
    return view;
  };
  return { name, sizeBytes, index, attach, create: () => attach(new SharedArrayBuffer(sizeBytes)) };
}

/**
 * The MMIO windows of a PCI segment and what lies in them.
 *
 * L3. Main places BARs and mapped memory, a vCPU Worker moves a BAR when the guest says so: the table of ranges is a shared
 * block, changed under its lock. Allocation is top-down: the highest gap that fits, aligned down.
 */
import { type BlockOf, defineBlock } from "@vmm/sync/shared_block.ts";

const MAX_RANGES = 256;
const WORDS = 4;
const HIGH = 0x1_0000_0000;

/** One per segment. An empty window has end = start. Ends are exclusive. */
export const ApertureBlock = defineBlock("aperture", {
  start32: { u32: 2 },
  end32: { u32: 2 },
  start64: { u32: 2 },
  end64: { u32: 2 },
  count: "u32",
  /** base low, base high, size low, size high. */
  ranges: { u32: MAX_RANGES * WORDS },
});

/** An address range, end exclusive. */
export interface AddressRange {
  readonly start: number;
  readonly end: number;
}

/** The two windows of one segment. */
export interface SegmentWindows {
  readonly memory32: AddressRange;
  readonly memory64: AddressRange;
}

/** The table of one segment as one isolate sees it. */
export class Aperture {
  constructor(readonly block: BlockOf<typeof ApertureBlock>) {}

  /** A new table with nothing in it. */
  static create(windows: SegmentWindows): Aperture {
    const block = ApertureBlock.create();
    put(block.start32, 0, windows.memory32.start);
    put(block.end32, 0, windows.memory32.end);
    put(block.start64, 0, windows.memory64.start);
    put(block.end64, 0, windows.memory64.end);
    return new Aperture(block);
  }

  static attach(buffer: SharedArrayBuffer): Aperture {
    return new Aperture(ApertureBlock.attach(buffer));
  }

  get windows(): SegmentWindows {
    const b = this.block;
    return {
      memory32: { start: get(b.start32, 0), end: get(b.end32, 0) },
      memory64: { start: get(b.start64, 0), end: get(b.end64, 0) },
    };
  }

  /** Takes the highest free place; undefined when there is none. `alignment` is a power of two. */
  allocate(window: "memory32" | "memory64", sizeBytes: number, alignment: number): number | undefined {
    this.block.lock();
    const { start, end } = this.windows[window];
    const base = this.block.count < MAX_RANGES ? this.#highest(start, end, sizeBytes, alignment) : undefined;
    if (base !== undefined) this.#append(base, sizeBytes);
    this.block.unlock();
    return base;
  }

  /** Takes exactly this range; false when it is outside both windows or not free. */
  reserve(base: number, sizeBytes: number): boolean {
    this.block.lock();
    const free = this.block.count < MAX_RANGES && this.#free(base, sizeBytes, -1);
    if (free) this.#append(base, sizeBytes);
    this.block.unlock();
    return free;
  }

  /** Moves a range; false, with nothing changed, when the new place is outside the range's window or not free. */
  move(oldBase: number, newBase: number, sizeBytes: number): boolean {
    this.block.lock();
    const entry = this.#indexOf(oldBase);
    const { memory32, memory64 } = this.windows;
    const window = oldBase >= memory64.start ? memory64 : memory32;
    const inside = newBase >= window.start && newBase + sizeBytes <= window.end;
    const free = entry >= 0 && inside && this.#free(newBase, sizeBytes, entry);
    if (free) put(this.block.ranges, entry * WORDS, newBase);
    this.block.unlock();
    return free;
  }

  /** Gives the range that starts at `base` back. */
  free(base: number): void {
    this.block.lock();
    const entry = this.#indexOf(base);
    if (entry >= 0) {
      const last = (this.block.count - 1) * WORDS;
      this.block.ranges.copyWithin(entry * WORDS, last, last + WORDS);
      this.block.count -= 1;
    }
    this.block.unlock();
  }

  #append(base: number, sizeBytes: number): void {
    const at = this.block.count * WORDS;
    put(this.block.ranges, at, base);
    put(this.block.ranges, at + 2, sizeBytes);
    this.block.count += 1;
  }

  #indexOf(base: number): number {
    for (let i = 0; i < this.block.count; i++) if (get(this.block.ranges, i * WORDS) === base) return i;
    return -1;
  }

  #free(base: number, sizeBytes: number, except: number): boolean {
    const { memory32, memory64 } = this.windows;
    const end = base + sizeBytes;
    const inside = (w: AddressRange) => base >= w.start && end <= w.end;
    if (!inside(memory32) && !inside(memory64)) return false;
    for (let i = 0; i < this.block.count; i++) {
      if (i === except) continue;
      const other = get(this.block.ranges, i * WORDS);
      if (base < other + get(this.block.ranges, i * WORDS + 2) && end > other) return false;
    }
    return true;
  }

  /** Goes down from the top; each range in the way pushes the candidate below itself. */
  #highest(start: number, end: number, sizeBytes: number, alignment: number): number | undefined {
    let base = alignDown(end - sizeBytes, alignment);
    for (let again = true; again;) {
      again = false;
      if (base < start) return undefined;
      for (let i = 0; i < this.block.count; i++) {
        const other = get(this.block.ranges, i * WORDS);
        if (base >= other + get(this.block.ranges, i * WORDS + 2) || base + sizeBytes <= other) continue;
        base = alignDown(other - sizeBytes, alignment);
        again = true;
      }
    }
    return base;
  }
}

function alignDown(value: number, alignment: number): number {
  return Math.floor(value / alignment) * alignment;
}

function get(words: Uint32Array, at: number): number {
  return words[at + 1] * HIGH + words[at];
}

function put(words: Uint32Array, at: number, value: number): void {
  words[at] = value >>> 0;
  words[at + 1] = Math.floor(value / HIGH);
}

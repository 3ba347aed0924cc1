/**
 * Rings that lie together for the driver and apart in memory: a copy in one piece, kept up to date.
 *
 * L3, I/O Worker. Linux allocates long rings behind an IOMMU page by page. The queue works on the copy: what the driver wrote
 * is fetched before the queue looks for requests, what the device wrote is put out when the queue shows it.
 * Source: virtio 1.2 §2.7.
 */
import { GuestMemory, MappedRegion } from "@vmm/memory/guest_memory.ts";

/** Where a ring lies for the driver, piece by piece. */
export interface RingPiece {
  readonly gpa: number;
  readonly lengthBytes: number;
}

const FLAGS = 0;
const INDEX = 1;
/** Flags and index: the rest of a ring is copied without them. */
const HEAD_BYTES = 4;

/** One ring: bytes here and there. */
class Mirrored {
  readonly #here: Uint8Array[] = [];
  readonly #there: Uint8Array[] = [];
  /** Flags and index, here and there. */
  readonly headHere: Uint16Array;
  readonly headThere: Uint16Array;

  constructor(local: ArrayBuffer, start: number, skip: number, pieces: readonly Located[]) {
    let at = start;
    for (const { region, offset, lengthBytes } of pieces) {
      const from = Math.max(0, start + skip - at);
      if (from < lengthBytes) {
        this.#here.push(new Uint8Array(local, at + from, lengthBytes - from));
        this.#there.push(new Uint8Array(region.buffer, offset + from, lengthBytes - from));
      }
      at += lengthBytes;
    }
    this.headHere = new Uint16Array(local, start, 2);
    this.headThere = new Uint16Array(pieces[0].region.buffer, pieces[0].offset, 2);
  }

  fetch(): void {
    for (let i = 0; i < this.#here.length; i++) this.#here[i].set(this.#there[i]);
  }

  put(): void {
    for (let i = 0; i < this.#here.length; i++) this.#there[i].set(this.#here[i]);
  }
}

interface Located {
  readonly region: MappedRegion;
  readonly offset: number;
  readonly lengthBytes: number;
}

/** See the module. */
export class RingMirror {
  /** The copies: table, available ring, used ring, at these addresses. */
  readonly memory: GuestMemory;
  readonly descriptors = 0;
  readonly driver: number;
  readonly device: number;
  readonly #table: Mirrored;
  readonly #available: Mirrored;
  readonly #used: Mirrored;

  private constructor(table: Located[], available: Located[], used: Located[]) {
    const align = (value: number) => Math.ceil(value / 16) * 16;
    this.driver = align(lengthOf(table));
    this.device = align(this.driver + lengthOf(available));
    const buffer = new ArrayBuffer(align(this.device + lengthOf(used)));
    this.memory = new GuestMemory([{ gpa: 0, sizeBytes: buffer.byteLength, hostAddress: 0n, buffer }]);
    this.#table = new Mirrored(buffer, this.descriptors, 0, table);
    this.#available = new Mirrored(buffer, this.driver, HEAD_BYTES, available);
    this.#used = new Mirrored(buffer, this.device, HEAD_BYTES, used);
    this.#used.headHere.set(this.#used.headThere);
    this.#used.fetch();
    this.fetch();
  }

  /** A mirror; undefined when a piece is not RAM, or a ring does not begin at a multiple of its alignment. */
  static create(
    memory: GuestMemory,
    table: readonly RingPiece[],
    available: readonly RingPiece[],
    used: readonly RingPiece[],
  ): RingMirror | undefined {
    if (table[0].gpa % 16 !== 0 || available[0].gpa % 2 !== 0 || used[0].gpa % 4 !== 0) return undefined;
    if (available[0].lengthBytes < HEAD_BYTES) return undefined;
    const rings = [table, available, used].map((pieces) => locate(memory, pieces));
    const [first, second, third] = rings;
    if (first === undefined || second === undefined || third === undefined) return undefined;
    return new RingMirror(first, second, third);
  }

  /** Copies what the driver wrote: its index first, so that everything before it is there. */
  fetch(): void {
    const { headHere, headThere } = this.#available;
    const index = Atomics.load(headThere, INDEX);
    this.#available.fetch();
    this.#table.fetch();
    headHere[FLAGS] = Atomics.load(headThere, FLAGS);
    headHere[INDEX] = index;
  }

  /** Shows what the device wrote, its index last, and then looks at what the driver wants to be told of. */
  flush(): void {
    const { headHere, headThere } = this.#used;
    this.#used.put();
    Atomics.store(headThere, FLAGS, headHere[FLAGS]);
    Atomics.store(headThere, INDEX, headHere[INDEX]);
    this.#available.headHere[FLAGS] = Atomics.load(this.#available.headThere, FLAGS);
    this.#available.fetch();
  }
}

function locate(memory: GuestMemory, pieces: readonly RingPiece[]): Located[] | undefined {
  const located: Located[] = [];
  for (const { gpa, lengthBytes } of pieces) {
    const region = memory.find(gpa, lengthBytes);
    if (region === undefined) return undefined;
    located.push({ region, offset: gpa - region.gpa, lengthBytes });
  }
  return located;
}

function lengthOf(pieces: readonly Located[]): number {
  return pieces.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
}

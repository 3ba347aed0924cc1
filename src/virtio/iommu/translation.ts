/**
 * Addresses of one device behind the virtual IOMMU, made into guest physical ones.
 *
 * L3, runs in the I/O Worker that serves the device; nothing is allocated per look. The range found last is remembered for as
 * long as the table does not change.
 */
import type { RefusedAccess } from "../guest_fault.ts";
import type { PageRange } from "./interval_tree.ts";
import { MappingTable } from "./mapping_table.ts";
import type { RingPiece } from "./ring_mirror.ts";
import { PAGE_BYTES, PAGE_SHIFT, PAGES_PER_HIGH_WORD } from "./spec.ts";

/** Which endpoint a device is, in which table. Plain and cloneable. */
export interface EndpointDescription {
  readonly table: SharedArrayBuffer;
  readonly endpoint: number;
}

/** See the module. */
export class EndpointTranslation {
  /** The address `find` had no answer for last. */
  refused: RefusedAccess = { high: 0, low: 0, access: 0 };
  /** Bytes from the address that was found last to the end of what it is mapped with. */
  runBytes = 0;
  readonly #table: MappingTable;
  readonly #endpoint: number;
  readonly #range: PageRange = { first: 1, last: 0, target: 0, flags: 0 };
  /** Odd: nothing is remembered. */
  #sequence = 1;

  constructor(description: EndpointDescription) {
    this.#table = new MappingTable(description.table);
    this.#endpoint = description.endpoint;
  }

  /**
   * Guest physical address of a device address given as two words, and `runBytes`; −1 if the device has no access.
   *
   * @param access `VIRTIO_IOMMU_MAP_F_READ` or `…_WRITE`, or both
   */
  find(high: number, low: number, access: number): number {
    const page = high * PAGES_PER_HIGH_WORD + (low >>> PAGE_SHIFT);
    const range = this.#range;
    if (page < range.first || page > range.last || this.#table.sequence !== this.#sequence) {
      if (!this.#look(page)) return this.#refuse(high, low, access);
    }
    if ((range.flags & access) !== access) return this.#refuse(high, low, access);
    const offset = low & (PAGE_BYTES - 1);
    this.runBytes = (range.last - page + 1) * PAGE_BYTES - offset;
    return (range.target + (page - range.first)) * PAGE_BYTES + offset;
  }

  /** Where `lengthBytes` bytes lie; pieces that follow on are one. Undefined if the device has no access to some of it. */
  findAll(high: number, low: number, lengthBytes: number, access: number): RingPiece[] | undefined {
    const pieces: { gpa: number; lengthBytes: number }[] = [];
    for (let done = 0; done < lengthBytes;) {
      const at = low + done;
      const gpa = this.find(high + Math.floor(at / 2 ** 32), at % 2 ** 32, access);
      if (gpa < 0) return undefined;
      const take = Math.min(lengthBytes - done, this.runBytes);
      const last = pieces.at(-1);
      if (last !== undefined && last.gpa + last.lengthBytes === gpa) last.lengthBytes += take;
      else pieces.push({ gpa, lengthBytes: take });
      done += take;
    }
    return pieces;
  }

  #refuse(high: number, low: number, access: number): -1 {
    this.refused = { high, low, access };
    return -1;
  }

  #look(page: number): boolean {
    // Read before looking: a change meanwhile makes the next call look again.
    const sequence = this.#table.sequence;
    const found = this.#table.lookUp(this.#endpoint, page, this.#range);
    this.#sequence = found ? sequence : 1;
    if (!found) this.#range.last = -1;
    return found;
  }
}

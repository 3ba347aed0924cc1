/**
 * Items of the firmware configuration device as Workers read them: stretches of open files.
 *
 * L5, vCPU and I/O Workers. Small items lie together in one file in memory, kernel and RAM disk stay in theirs.
 */
import { pread } from "@ffi/libc/file_io.ts";
import type { ItemSource } from "@vmm/bus/item_source.ts";

/** Where an item's bytes are. */
export interface FwCfgStretch {
  readonly key: number;
  readonly fd: number;
  readonly offset: number;
  readonly sizeBytes: number;
}

/** What Workers are told: plain and cloneable. */
export interface FwCfgDescription {
  /** `FwCfgBlock`. */
  readonly block: SharedArrayBuffer;
  readonly items: readonly FwCfgStretch[];
}

/** Reads items with system calls. */
export class FwCfgItems implements ItemSource {
  readonly #items: ReadonlyMap<number, FwCfgStretch>;

  constructor(description: FwCfgDescription) {
    this.#items = new Map(description.items.map((item) => [item.key, item]));
  }

  sizeOf(key: number): number {
    return this.#items.get(key)?.sizeBytes ?? 0;
  }

  read(key: number, offset: number, target: Uint8Array<ArrayBuffer>): boolean {
    const item = this.#items.get(key);
    if (item === undefined || offset + target.byteLength > item.sizeBytes) return false;
    for (let done = 0; done < target.byteLength;) {
      const count = pread(item.fd, target.subarray(done), item.offset + offset + done);
      if (count <= 0) return false;
      done += count;
    }
    return true;
  }
}

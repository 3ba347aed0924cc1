/**
 * A disk in an array, for tests of the block handler: synchronous, or finishing later as a test says.
 *
 * L4, tests only. Host addresses are guest addresses, as in the mock driver's memory.
 */
import type { GuestMemory } from "@vmm/memory/guest_memory.ts";
import { type Disk, type DiskCompletion, IO_PENDING } from "@vmm/virtio/ports/disk.ts";

const SECTOR_BYTES = 512;
const EIO = 5;
const EAGAIN = 11;

/** What was asked of the disk. */
export interface DiskCall {
  readonly operation: "read" | "write" | "flush" | "discard" | "zero" | "unmap";
  readonly offset: number;
  readonly lengthBytes: number;
}

/** See the module. */
export class FakeDisk implements Disk {
  bytes: Uint8Array;
  readonly completionFd = -1;
  readonly calls: DiskCall[] = [];
  /** Result of the next operations instead of success. */
  failWith: number | undefined;
  /** Adjacent requests may come as one. */
  together = false;
  /** Operations wait until `finish` (or a drain). */
  async = false;
  readonly #waiting: { token: number; result: number }[] = [];
  #completed: DiskCompletion | undefined;

  constructor(private readonly memory: GuestMemory, sizeBytes: number) {
    this.bytes = new Uint8Array(sizeBytes);
  }

  get sizeBytes(): number {
    return this.bytes.byteLength;
  }

  read(
    token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    return this.#do(token, { operation: "read", offset, lengthBytes }, () => {
      let at = offset;
      for (const piece of this.#pieces(iov, count)) {
        piece.set(this.bytes.subarray(at, at + piece.byteLength));
        at += piece.byteLength;
      }
      return at - offset;
    });
  }

  write(
    token: number,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    return this.#do(token, { operation: "write", offset, lengthBytes }, () => {
      let at = offset;
      for (const piece of this.#pieces(iov, count)) {
        this.bytes.set(piece, at);
        at += piece.byteLength;
      }
      return at - offset;
    });
  }

  transferNow(
    isWrite: boolean,
    iov: Uint8Array<ArrayBuffer>,
    count: number,
    lengthBytes: number,
    offset: number,
  ): number {
    if (!this.together || this.async) return -EAGAIN;
    return isWrite
      ? this.write(0, iov, count, lengthBytes, offset)
      : this.read(0, iov, count, lengthBytes, offset);
  }

  flush(token: number): number {
    return this.#do(token, { operation: "flush", offset: 0, lengthBytes: 0 }, () => 0);
  }

  discard(token: number, offset: number, lengthBytes: number): number {
    return this.#do(
      token,
      { operation: "discard", offset, lengthBytes },
      () => this.#fill(offset, lengthBytes),
    );
  }

  writeZeroes(token: number, offset: number, lengthBytes: number, mayUnmap: boolean): number {
    const operation = mayUnmap ? "unmap" : "zero";
    return this.#do(token, { operation, offset, lengthBytes }, () => this.#fill(offset, lengthBytes));
  }

  submit(): void {}

  reap(completed: DiskCompletion): void {
    this.#completed = completed;
  }

  drain(completed: DiskCompletion): void {
    this.#completed = completed;
    while (this.#waiting.length > 0) this.finish(0);
  }

  /** Finishes the waiting operation `index`, if the handler ever asked for completions. */
  finish(index: number): void {
    const [operation] = this.#waiting.splice(index, 1);
    this.#completed?.(operation.token, operation.result);
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  resize(sizeBytes: number): number {
    if (this.failWith !== undefined) return this.failWith;
    const bytes = new Uint8Array(sizeBytes);
    bytes.set(this.bytes.subarray(0, sizeBytes));
    this.bytes = bytes;
    return 0;
  }

  close(): void {}

  #do(token: number, call: DiskCall, run: () => number): number {
    this.calls.push(call);
    if (call.offset % SECTOR_BYTES !== 0 || call.offset + call.lengthBytes > this.sizeBytes) return -EIO;
    const result = this.failWith ?? run();
    if (!this.async) return result;
    this.#waiting.push({ token, result });
    return IO_PENDING;
  }

  #fill(offset: number, lengthBytes: number): number {
    this.bytes.fill(0, offset, offset + lengthBytes);
    return 0;
  }

  *#pieces(iov: Uint8Array<ArrayBuffer>, count: number): Generator<Uint8Array> {
    const view = new DataView(iov.buffer, iov.byteOffset);
    for (let i = 0; i < count; i++) {
      const address = Number(view.getBigUint64(16 * i, true));
      const piece = this.memory.bytes(address, Number(view.getBigUint64(16 * i + 8, true)));
      if (piece === undefined) throw new Error(`the handler gave address ${address} outside RAM to the disk`);
      yield piece;
    }
  }
}

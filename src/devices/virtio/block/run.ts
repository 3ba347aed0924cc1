/**
 * Requests of a batch that continue each other: read or written by one call.
 *
 * L4, I/O Worker; pure, allocates nothing after the first batches. The file system's part of a call costs as much as moving
 * 4 KiB does: drivers that send sequential transfers in small pieces get most of it back.
 */
import { DescriptorChain } from "@vmm/virtio/queue/chain.ts";
import { BlockRequest } from "./request.ts";
import { RequestHeader, SECTOR_BYTES, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT } from "./spec.ts";

/** A request and where its buffers are. */
export class RunMember {
  readonly chain = new DescriptorChain();
  readonly request = new BlockRequest();
}

/** Bytes in one call: more gains nothing. */
const MOST_BYTES = 256 << 10;
const MOST_VECTORS = 256;
const VECTOR_BYTES = 16;
const VECTOR_WORDS = 4;

/** See the module. */
export class RequestRun {
  /** Members of the run, then spare ones. */
  readonly #members: RunMember[] = [new RunMember()];
  /** Requests in the run. */
  count = 0;
  /** Bytes of all of them. */
  lengthBytes = 0;
  /** After `gather`: entries and the list itself. */
  vectors = 0;
  readonly iovec = new Uint8Array(MOST_VECTORS * VECTOR_BYTES);
  readonly #words = new Uint32Array(this.iovec.buffer);
  #segments = 0;
  #endSector = 0;

  /** Member `index`; the one at `count` is for the next request. */
  at(index: number): RunMember {
    return this.#members[index];
  }

  /** True if the next request continues the run. */
  continues(): boolean {
    const { request, chain } = this.#members[this.count];
    const { request: first } = this.#members[0];
    return request.type === first.type && request.sector === this.#endSector && request.lengthBytes > 0 &&
      (request.type === VIRTIO_BLK_T_IN || request.type === VIRTIO_BLK_T_OUT) &&
      this.lengthBytes + request.lengthBytes <= MOST_BYTES && this.#segments + chain.count <= MOST_VECTORS;
  }

  /** Takes the next request into the run; into an empty one, whatever it is. */
  take(): void {
    const { request, chain } = this.#members[this.count];
    if (this.count === 0) this.lengthBytes = this.#segments = 0;
    this.count++;
    this.lengthBytes += request.lengthBytes;
    this.#segments += chain.count;
    this.#endSector = request.sector + request.lengthBytes / SECTOR_BYTES;
    if (this.count === this.#members.length) this.#members.push(new RunMember());
  }

  /** Empties the run; the next request, if it was filled in already, comes first then. */
  clear(): void {
    const next = this.#members[this.count];
    this.#members[this.count] = this.#members[0];
    this.#members[0] = next;
    this.count = 0;
  }

  /** Lists the buffers of all members; false if that cannot be one call. */
  gather(): boolean {
    const isRead = this.#members[0].request.type === VIRTIO_BLK_T_IN;
    this.vectors = 0;
    for (let i = 0; i < this.count; i++) {
      const { chain, request } = this.#members[i];
      const entries = chain.gather(isRead, isRead ? 0 : RequestHeader.size, request.lengthBytes);
      if (chain.gatheredBytes !== request.lengthBytes || this.vectors + entries > MOST_VECTORS) return false;
      chain.copyVectors(entries, this.#words, this.vectors * VECTOR_WORDS);
      this.vectors += entries;
    }
    return true;
  }
}

/**
 * Bytes of a guest that its host peer has not taken yet: a ring of fixed size.
 *
 * L4, I/O Worker. The ring is made when it is first needed; most connections never need it.
 */
import type { HostStream } from "@vmm/virtio/ports/streams.ts";
import type { DescriptorChain } from "@vmm/virtio/queue/chain.ts";

/** What a guest may have under way on one connection: its credit. */
export const SEND_BUFFER_BYTES = 64 << 10;

/** See the module. */
export class SendBuffer {
  #ring: Uint8Array<ArrayBuffer> | undefined;
  #start = 0;
  #length = 0;

  /** Bytes waiting. */
  get length(): number {
    return this.#length;
  }

  /** Adds `lengthBytes` from `offset` of a chain's readable part; false, with nothing added, when there is no room. */
  add(chain: DescriptorChain, offset: number, lengthBytes: number): boolean {
    if (this.#length + lengthBytes > SEND_BUFFER_BYTES) return false;
    const ring = this.#ring ??= new Uint8Array(SEND_BUFFER_BYTES);
    let at = (this.#start + this.#length) % SEND_BUFFER_BYTES;
    for (let done = 0; done < lengthBytes;) {
      const take = Math.min(lengthBytes - done, SEND_BUFFER_BYTES - at);
      chain.readBytes(offset + done, ring.subarray(at, at + take));
      done += take;
      at = (at + take) % SEND_BUFFER_BYTES;
    }
    this.#length += lengthBytes;
    return true;
  }

  /** Sends as much as goes; returns the bytes sent, or `-errno` of a failure that is not EAGAIN. */
  flush(stream: HostStream): number {
    let total = 0;
    while (this.#length > 0) {
      const end = Math.min(this.#start + this.#length, SEND_BUFFER_BYTES);
      const sent = stream.sendBytes(this.#ring!.subarray(this.#start, end));
      if (sent === -EAGAIN) break;
      if (sent < 0) return sent;
      this.#start = (this.#start + sent) % SEND_BUFFER_BYTES;
      this.#length -= sent;
      total += sent;
    }
    return total;
  }

  /** Forgets everything. */
  clear(): void {
    this.#ring = undefined;
    this.#start = this.#length = 0;
  }
}

const EAGAIN = 11;

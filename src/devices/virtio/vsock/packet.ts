/**
 * Reads and writes packet headers in descriptor chains, without allocation.
 *
 * L4, I/O Worker. Source: virtio 1.2 §5.10.6.
 */
import type { DescriptorChain } from "@vmm/virtio/queue/chain.ts";
import { PacketHeader, VIRTIO_VSOCK_TYPE_STREAM, VSOCK_HOST_CID } from "./spec.ts";

/** A header of the guest's, read once: it may change in guest memory meanwhile. */
export class ReceivedHeader {
  readonly #bytes = new Uint8Array(PacketHeader.size);
  readonly #view = new DataView(this.#bytes.buffer);

  /** Takes the header at the start of the readable part; false if that is too short. */
  read(chain: DescriptorChain): boolean {
    return chain.readBytes(0, this.#bytes) === PacketHeader.size;
  }

  /** True for a packet to the host itself; there is nobody else. */
  get isForHost(): boolean {
    const { dst_cid } = PacketHeader;
    return this.#view.getUint32(dst_cid, true) === VSOCK_HOST_CID &&
      this.#view.getUint32(dst_cid + 4, true) === 0;
  }

  get guestPort(): number {
    return this.#view.getUint32(PacketHeader.src_port, true);
  }

  get hostPort(): number {
    return this.#view.getUint32(PacketHeader.dst_port, true);
  }

  /** The ports as signed numbers, which V8 holds without an object whatever the guest chose. */
  get guestKey(): number {
    return this.#view.getInt32(PacketHeader.src_port, true);
  }

  get hostKey(): number {
    return this.#view.getInt32(PacketHeader.dst_port, true);
  }

  /** Bytes behind the header. */
  get lengthBytes(): number {
    return this.#view.getUint32(PacketHeader.len, true);
  }

  get type(): number {
    return this.#view.getUint16(PacketHeader.type, true);
  }

  get op(): number {
    return this.#view.getUint16(PacketHeader.op, true);
  }

  get flags(): number {
    return this.#view.getUint32(PacketHeader.flags, true);
  }

  get bufAlloc(): number {
    return this.#view.getUint32(PacketHeader.buf_alloc, true);
  }

  get fwdCnt(): number {
    return this.#view.getUint32(PacketHeader.fwd_cnt, true);
  }
}

/** Writes headers of packets from the host to one guest. */
export class HeaderWriter {
  readonly #bytes = new Uint8Array(PacketHeader.size);
  readonly #view = new DataView(this.#bytes.buffer);

  constructor(guestCid: number) {
    this.#view.setUint32(PacketHeader.src_cid, VSOCK_HOST_CID, true);
    this.#view.setUint32(PacketHeader.dst_cid, guestCid, true);
    this.#view.setUint16(PacketHeader.type, VIRTIO_VSOCK_TYPE_STREAM, true);
  }

  /** Writes a header to the start of the writable part; returns the length of the packet. */
  write(
    chain: DescriptorChain,
    hostPort: number,
    guestPort: number,
    op: number,
    lengthBytes = 0,
    flags = 0,
    bufAlloc = 0,
    fwdCnt = 0,
  ): number {
    const view = this.#view;
    view.setUint32(PacketHeader.src_port, hostPort, true);
    view.setUint32(PacketHeader.dst_port, guestPort, true);
    view.setUint32(PacketHeader.len, lengthBytes, true);
    view.setUint16(PacketHeader.op, op, true);
    view.setUint32(PacketHeader.flags, flags, true);
    view.setUint32(PacketHeader.buf_alloc, bufAlloc, true);
    view.setUint32(PacketHeader.fwd_cnt, fwdCnt, true);
    chain.writeBytes(0, this.#bytes);
    return PacketHeader.size + lengthBytes;
  }
}

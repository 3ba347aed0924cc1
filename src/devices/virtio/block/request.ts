/**
 * What a driver asks of a block device: reading a chain, and the rules a request has to keep.
 *
 * L4, I/O Worker; pure, allocates nothing. The answer to a bad request is a status byte, never an exception.
 * Source: virtio 1.2 §5.2.6.
 */
import type { DescriptorChain } from "@vmm/virtio/queue/chain.ts";
import {
  RangeSegment,
  RequestHeader,
  SECTOR_BYTES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
} from "./spec.ts";

/** The request may be carried out. Other verdicts are status bytes to answer with. */
export const PROCEED = -1;
/** The chain has no room for a status: it is returned as it is. */
export const NO_STATUS = -2;

const STATUS_BYTES = 1;

/** What the device allows at the moment. */
export interface BlockLimits {
  capacitySectors: number;
  readonly readonly: boolean;
  /** Refuse to touch the first sector: the image's format was guessed from what is in it. */
  readonly protectSectorZero: boolean;
  readonly discard: boolean;
  readonly writeZeroes: boolean;
  /** Length of the serial number in bytes. */
  readonly serialBytes: number;
}

/** One request, filled again for each chain. */
export class BlockRequest {
  type = 0;
  /** First sector; above 2^53 only roughly right, which is beyond every disk. */
  sector = 0;
  /** Bytes of data of a read (writable) or write (readable); bytes of the range for discard and write-zeroes. */
  lengthBytes = 0;
  mayUnmap = false;

  /** Takes the request out of `chain` and applies the rules. */
  parse(chain: DescriptorChain, limits: BlockLimits): number {
    if (chain.writableBytes < STATUS_BYTES) return NO_STATUS;
    if (chain.readableBytes < RequestHeader.size) return VIRTIO_BLK_S_IOERR;
    this.type = chain.readU32(RequestHeader.type);
    this.sector = chain.readU64(RequestHeader.sector);
    const sent = chain.readableBytes - RequestHeader.size;
    const room = chain.writableBytes - STATUS_BYTES;
    switch (this.type) {
      case VIRTIO_BLK_T_IN:
        this.lengthBytes = room;
        return sent > 0 ? VIRTIO_BLK_S_IOERR : this.#checkData(limits);
      case VIRTIO_BLK_T_OUT:
        if (limits.readonly || (limits.protectSectorZero && this.sector === 0)) return VIRTIO_BLK_S_IOERR;
        this.lengthBytes = sent;
        return room > 0 ? VIRTIO_BLK_S_IOERR : this.#checkData(limits);
      case VIRTIO_BLK_T_FLUSH:
        return PROCEED;
      case VIRTIO_BLK_T_GET_ID:
        return sent > 0 || room < limits.serialBytes ? VIRTIO_BLK_S_IOERR : PROCEED;
      case VIRTIO_BLK_T_DISCARD:
        return this.#parseRange(chain, sent, room, limits, limits.discard, 0);
      case VIRTIO_BLK_T_WRITE_ZEROES:
        return this.#parseRange(
          chain,
          sent,
          room,
          limits,
          limits.writeZeroes,
          VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
        );
      default: // whatever the guest made up; a read-only device refuses everything it does not know
        return limits.readonly ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_UNSUPP;
    }
  }

  #checkData(limits: BlockLimits): number {
    if (this.lengthBytes % SECTOR_BYTES !== 0) return VIRTIO_BLK_S_IOERR;
    const end = this.sector + this.lengthBytes / SECTOR_BYTES;
    return this.lengthBytes > 0 && end > limits.capacitySectors ? VIRTIO_BLK_S_IOERR : PROCEED;
  }

  /** One segment exactly: more is not offered. */
  #parseRange(
    chain: DescriptorChain,
    sent: number,
    room: number,
    limits: BlockLimits,
    offered: boolean,
    allowedFlags: number,
  ): number {
    if (limits.readonly) return VIRTIO_BLK_S_IOERR;
    if (!offered) return VIRTIO_BLK_S_UNSUPP;
    if (sent !== RangeSegment.size || room > 0) return VIRTIO_BLK_S_IOERR;
    const flags = chain.readU32(RequestHeader.size + RangeSegment.flags);
    if ((flags & ~allowedFlags) !== 0) return VIRTIO_BLK_S_UNSUPP;
    this.mayUnmap = (flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) !== 0;
    this.sector = chain.readU64(RequestHeader.size + RangeSegment.sector);
    const sectors = chain.readU32(RequestHeader.size + RangeSegment.sectorCount);
    this.lengthBytes = sectors * SECTOR_BYTES;
    const isRefused = sectors === 0 || this.sector + sectors > limits.capacitySectors ||
      (limits.protectSectorZero && this.sector === 0);
    return isRefused ? VIRTIO_BLK_S_IOERR : PROCEED;
  }
}

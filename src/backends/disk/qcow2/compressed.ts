/**
 * Compressed clusters: where they are, and their contents.
 *
 * L4, I/O Worker. The decompressors come with the runtime and are loaded when the first compressed cluster is read.
 * Source: QEMU docs/interop/qcow2.txt "Compressed Clusters Descriptor", RFC 1951, RFC 8878 §3.1.1.
 */
import { ImageDamage, must } from "../host_failure.ts";
import type { ImageFile } from "../image_file.ts";
import type { Compression } from "./header.ts";

const SECTOR_BYTES = 512;
const WORD = 0x1_0000_0000;
const DESCRIPTOR_BITS = 62;
/** Decompressed clusters kept: sequential reads smaller than a cluster come back for the same one. */
const CACHE_BYTES = 1 << 20;

/** The parts of node:zlib that are used. */
interface Zlib {
  inflateRawSync(bytes: Uint8Array, options: { maxOutputLength: number }): Uint8Array;
  zstdDecompressSync(bytes: Uint8Array, options: { maxOutputLength: number }): Uint8Array;
}

let zlib: Zlib | undefined;
function loadZlib(): Zlib {
  const host = globalThis as unknown as { process: { getBuiltinModule(name: string): Zlib } };
  return zlib ??= host.process.getBuiltinModule("node:zlib");
}

/** Where a compressed cluster's data lies in the image file. */
export interface CompressedExtent {
  readonly offset: number;
  /** Upper bound: the data may end earlier. */
  readonly lengthBytes: number;
}

/** Reads a compressed cluster's table entry, given as two words. */
export function compressedExtent(high: number, low: number, clusterBits: number): CompressedExtent {
  // The offset takes this many bits, always more than 32; the count of further sectors the rest.
  const upperBits = DESCRIPTOR_BITS - (clusterBits - 8) - 32;
  const upper = high & 0x3fff_ffff;
  const offset = (upper & (2 ** upperBits - 1)) * WORD + low;
  const sectors = upper >>> upperBits;
  return { offset, lengthBytes: (sectors + 1) * SECTOR_BYTES - offset % SECTOR_BYTES };
}

/** Decompressed contents of an image's clusters. */
export class CompressedClusters {
  readonly #cache = new Map<number, Uint8Array>();
  readonly #limit: number;

  constructor(
    private readonly file: ImageFile,
    private readonly clusterBytes: number,
    private readonly compression: Compression,
  ) {
    this.#limit = Math.max(1, Math.floor(CACHE_BYTES / clusterBytes));
  }

  /** Contents of a cluster; not to be changed. @throws HostFailure, ImageDamage */
  read(extent: CompressedExtent): Uint8Array {
    const known = this.#cache.get(extent.offset);
    if (known !== undefined) return known;
    const packed = new Uint8Array(extent.lengthBytes);
    const got = must(this.file.readBytes(packed, extent.offset), "read compressed cluster");
    const plain = this.#unpack(packed.subarray(0, got));
    if (plain.byteLength !== this.clusterBytes) {
      throw new ImageDamage("a compressed cluster has the wrong length");
    }
    if (this.#cache.size >= this.#limit) this.#cache.delete(this.#cache.keys().next().value!);
    this.#cache.set(extent.offset, plain);
    return plain;
  }

  #unpack(packed: Uint8Array): Uint8Array {
    const options = { maxOutputLength: this.clusterBytes };
    try {
      if (this.compression === "zlib") return loadZlib().inflateRawSync(packed, options);
      // What follows the frame up to the end of the sector is not for the decompressor.
      return loadZlib().zstdDecompressSync(packed.subarray(0, zstdFrameBytes(packed)), options);
    } catch (error) {
      if (error instanceof ImageDamage) throw error;
      throw new ImageDamage(`a compressed cluster cannot be unpacked: ${(error as Error).message}`);
    }
  }
}

const ZSTD_MAGIC = 0xfd2f_b528;
const RAW_BLOCK = 0;
const RLE_BLOCK = 1;

/** Length of the zstd frame at the start of `bytes`. @throws ImageDamage if there is none or it is cut off */
function zstdFrameBytes(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    if (view.getUint32(0, true) !== ZSTD_MAGIC) throw new ImageDamage("no zstd frame");
    const descriptor = view.getUint8(4);
    const isSingleSegment = (descriptor & 0x20) !== 0;
    const hasChecksum = (descriptor & 0x04) !== 0;
    const dictionaryBytes = [0, 1, 2, 4][descriptor & 3];
    const sizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6];
    let at = 5 + (isSingleSegment ? 0 : 1) + dictionaryBytes + sizeBytes;
    for (;;) {
      const header = view.getUint16(at, true) | view.getUint8(at + 2) << 16;
      const type = header >> 1 & 3;
      const size = header >> 3;
      at += 3 + (type === RLE_BLOCK ? 1 : type === RAW_BLOCK || type === 2 ? size : Infinity);
      if ((header & 1) === 1) break;
    }
    at += hasChecksum ? 4 : 0;
    if (at > bytes.byteLength) throw new ImageDamage("a zstd frame is cut off");
    return at;
  } catch (error) {
    if (error instanceof RangeError) throw new ImageDamage("a zstd frame is cut off");
    throw error;
  }
}

/**
 * Builds the smallest payloads that boot: an ELF with a PVH note and a bzImage, both spinning at their entry.
 *
 * L2, tests only; pure.
 */
import { ByteWriter } from "@vmm/arch/x86_64/byte_writer.ts";

/** `cli; jmp .` */
export const SPIN_CODE: readonly number[] = [0xfa, 0xeb, 0xfe];

/** One program header of a test ELF. */
export interface ElfSegment {
  readonly type: number;
  readonly fileOffset: number;
  readonly paddr: number;
  readonly filesz: number;
  readonly memsz: number;
}

export const NOTE_OFFSET = 0x400;
export const CODE_OFFSET = 0x1000;
export const LOAD_ADDRESS = 0x100_0000;

/** A Xen note of 4-byte alignment. */
export function xenNote(entry: number, type = 18, name = "Xen\0"): Uint8Array {
  return new ByteWriter().u32(name.length, 4, type).ascii(name).u32(entry).take();
}

export interface ElfOptions {
  readonly entry?: number;
  readonly note?: Uint8Array;
  readonly segments?: readonly ElfSegment[];
  readonly code?: readonly number[];
}

/** Load segment of the code and note segment of a default test ELF. */
export function defaultSegments(
  code: readonly number[] = SPIN_CODE,
  paddr = LOAD_ADDRESS,
): [ElfSegment, ElfSegment] {
  const length = code.length;
  return [
    { type: 1, fileOffset: CODE_OFFSET, paddr, filesz: length, memsz: length },
    { type: 4, fileOffset: NOTE_OFFSET, paddr: 0, filesz: 20, memsz: 20 },
  ];
}

/** An ELF-64 kernel. */
export function tinyElf(options: ElfOptions = {}): Uint8Array<ArrayBuffer> {
  const entry = options.entry ?? LOAD_ADDRESS;
  const code = options.code ?? SPIN_CODE;
  const segments = options.segments ?? defaultSegments(code, entry);
  const writer = new ByteWriter()
    .u8(0x7f).ascii("ELF").u8(2, 1, 1).zeros(9)
    .u16(2, 62).u32(1).u64(entry, 64, 0).u32(0)
    .u16(64, 56, segments.length, 0, 0, 0);
  for (const segment of segments) {
    writer.u32(segment.type, 5)
      .u64(segment.fileOffset, segment.paddr, segment.paddr, segment.filesz, segment.memsz, 4);
  }
  writer.zeros(NOTE_OFFSET - writer.length).bytes(options.note ?? xenNote(entry));
  return writer.zeros(CODE_OFFSET - writer.length).bytes(code).take();
}

/** Fields of a test bzImage. */
export interface BzImageOptions {
  readonly setupSects?: number;
  readonly version?: number;
  readonly loadflags?: number;
  readonly initSize?: number;
  readonly code?: readonly number[];
}

/** A bzImage with one setup sector beyond the first and one sector of code. */
export function tinyBzImage(options: BzImageOptions = {}): Uint8Array<ArrayBuffer> {
  const setupSects = options.setupSects ?? 1;
  const code = options.code ?? SPIN_CODE;
  const bytes = new Uint8Array((setupSects + 1) * 512 + Math.max(512, code.length));
  const view = new DataView(bytes.buffer);
  view.setUint8(0x1f1, setupSects);
  view.setUint16(0x1fe, 0xaa55, true);
  view.setUint16(0x200, 0x66eb, true);
  view.setUint32(0x202, 0x5372_6448, true);
  view.setUint16(0x206, options.version ?? 0x20f, true);
  view.setUint8(0x211, options.loadflags ?? 1);
  view.setUint32(0x214, 0x10_0000, true);
  view.setUint32(0x22c, 0x7fff_ffff, true);
  view.setUint32(0x230, 0x20_0000, true);
  view.setUint8(0x234, 1);
  view.setUint32(0x238, 0x7ff, true);
  view.setBigUint64(0x258, 0x100_0000n, true);
  view.setUint32(0x260, options.initSize ?? 0x100_0000, true);
  bytes.set(code, (setupSects + 1) * 512);
  return bytes;
}

/**
 * A kernel of a few bytes: a PVH ELF around machine code, entered in 32-bit protected mode.
 *
 * L2, pure. For guests that are there to be run, not to do something: the rehearsal of the first boot, and tests.
 * Source: ELF-64 object file format; the PVH note XEN_ELFNOTE_PHYS32_ENTRY.
 */

const LOAD_GPA = 0x20_0000;
const CODE_OFFSET = 0x1000;
const ELF_HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const ET_EXEC = 2;
const EM_X86_64 = 62;
const PT_LOAD = 1;
const PT_NOTE = 4;
const PF_R_X = 5;
const XEN_ELFNOTE_PHYS32_ENTRY = 18;
/** Header, "Xen\0" and a 32-bit entry. */
const NOTE_BYTES = 20;

/** An ELF file with a PVH note that loads `code` at 2 MiB and enters it at its first byte. */
export function pvhElf(code: Uint8Array): Uint8Array<ArrayBuffer> {
  const file = new Uint8Array(CODE_OFFSET + code.length);
  const view = new DataView(file.buffer);
  const u16 = (at: number, value: number) => view.setUint16(at, value, true);
  const u32 = (at: number, value: number) => view.setUint32(at, value, true);
  const u64 = (at: number, value: number) => view.setBigUint64(at, BigInt(value), true);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]); // ELF64, little endian, version 1
  u16(16, ET_EXEC);
  u16(18, EM_X86_64);
  u32(20, 1);
  u64(24, LOAD_GPA);
  u64(32, ELF_HEADER_BYTES); // program headers follow
  u16(52, ELF_HEADER_BYTES);
  u16(54, PROGRAM_HEADER_BYTES);
  u16(56, 2);
  const programHeader = (at: number, type: number, offset: number, size: number) => {
    u32(at, type);
    u32(at + 4, PF_R_X);
    u64(at + 8, offset);
    u64(at + 16, LOAD_GPA);
    u64(at + 24, LOAD_GPA);
    u64(at + 32, size);
    u64(at + 40, size);
    u64(at + 48, 4);
  };
  const noteAt = ELF_HEADER_BYTES + 2 * PROGRAM_HEADER_BYTES;
  programHeader(ELF_HEADER_BYTES, PT_LOAD, CODE_OFFSET, code.length);
  programHeader(ELF_HEADER_BYTES + PROGRAM_HEADER_BYTES, PT_NOTE, noteAt, NOTE_BYTES);
  u32(noteAt, 4);
  u32(noteAt + 4, 4);
  u32(noteAt + 8, XEN_ELFNOTE_PHYS32_ENTRY);
  file.set(new TextEncoder().encode("Xen\0"), noteAt + 12);
  u32(noteAt + 16, LOAD_GPA);
  file.set(code, CODE_OFFSET);
  return file;
}

/**
 * ELF kernels with a PVH entry point: program headers and the Xen note.
 *
 * L2, any isolate; pure. Source: System V gABI ch. 4, 5 (ELF-64); Xen docs/misc/pvh.pandoc; xen/include/public/elfnote.h.
 */
import { HIGH_RAM_START } from "@vmm/arch/x86_64/layout.ts";
import { INVALID_BZIMAGE, type KernelFile, loadError, type LoadSegment, readExactly } from "./kernel_file.ts";

const ELF_MAGIC = 0x464c_457f; // "\x7fELF"
const ELFCLASS64 = 2;
const ELFDATA2LSB = 1;
const PT_LOAD = 1;
const PT_NOTE = 4;
const XEN_ELFNOTE_PHYS32_ENTRY = 18;
const XEN_NOTE_NAME = "Xen\0";

/** Fields of the ELF-64 header used here. */
const EHDR = { size: 64, class: 4, data: 5, entry: 24, phoff: 32, phentsize: 54, phnum: 56 } as const;
/** Fields of an ELF-64 program header. */
const PHDR = { size: 56, type: 0, offset: 8, paddr: 24, filesz: 32, memsz: 40, align: 48 } as const;
/** An ELF note header: name size, descriptor size, type. */
const NHDR = { size: 12, namesz: 0, descsz: 4, type: 8 } as const;

/** Notes longer than this are not searched: a kernel's are a few hundred bytes. */
const MAX_NOTES_BYTES = 0x1_0000;

/** A parsed kernel. */
export interface ElfKernel {
  readonly segments: readonly LoadSegment[];
  /** Entry of XEN_ELFNOTE_PHYS32_ENTRY, or undefined without one. */
  readonly pvhEntry: number | undefined;
}

/** Whether a file starts like an ELF file. */
export function isElf(file: KernelFile): boolean {
  const start = file.readAt(0, 4);
  return start.length === 4 && viewOf(start).getUint32(0, true) === ELF_MAGIC;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A 64-bit field as a number; −1 stands for every value of 2^53 or more. */
function getU64(view: DataView, at: number): number {
  const value = view.getUint32(at, true) + view.getUint32(at + 4, true) * 0x1_0000_0000;
  return Number.isSafeInteger(value) ? value : -1;
}

function elfError(detail: string): Error {
  return loadError(INVALID_BZIMAGE, `ELF ${detail}`);
}

/**
 * Reads headers and notes of an ELF kernel. Segments are checked against the file, not yet against guest memory.
 *
 * @throws ArchError (kernel-load) for a file that is no ELF-64 little-endian kernel or is truncated
 */
export function parseElf(file: KernelFile): ElfKernel {
  const header = viewOf(readExactly(file, 0, EHDR.size, "ELF header"));
  if (header.getUint8(EHDR.class) !== ELFCLASS64 || header.getUint8(EHDR.data) !== ELFDATA2LSB) {
    throw elfError("file is not 64-bit little-endian");
  }
  const entry = getU64(header, EHDR.entry);
  if (entry < HIGH_RAM_START) throw elfError(`entry point 0x${entry.toString(16)} is below 1 MiB`);
  const count = header.getUint16(EHDR.phnum, true);
  if (header.getUint16(EHDR.phentsize, true) !== PHDR.size) {
    throw elfError(`program headers are not ${PHDR.size} bytes each`);
  }
  const phoff = getU64(header, EHDR.phoff);
  if (phoff < EHDR.size) throw elfError("program headers lie inside the header or nowhere");
  const headers = viewOf(readExactly(file, phoff, count * PHDR.size, "ELF program header table"));
  const segments: LoadSegment[] = [];
  let pvhEntry: number | undefined;
  for (let i = 0; i < count; i++) {
    const at = i * PHDR.size;
    const type = headers.getUint32(at + PHDR.type, true);
    if (type !== PT_LOAD && type !== PT_NOTE) continue;
    const fileOffset = getU64(headers, at + PHDR.offset);
    const lengthBytes = getU64(headers, at + PHDR.filesz);
    const memoryBytes = getU64(headers, at + PHDR.memsz);
    const gpa = getU64(headers, at + PHDR.paddr);
    if (fileOffset < 0 || lengthBytes < 0 || fileOffset + lengthBytes > file.sizeBytes) {
      throw elfError(`segment ${i} is truncated: it ends behind the file's ${file.sizeBytes} bytes`);
    }
    if (type === PT_NOTE) {
      if (lengthBytes > MAX_NOTES_BYTES) throw elfError(`segment ${i} has ${lengthBytes} bytes of notes`);
      pvhEntry ??= findPvhEntry(
        readExactly(file, fileOffset, lengthBytes, "ELF note segment"),
        getU64(headers, at + PHDR.align),
      );
      continue;
    }
    if (gpa < 0 || memoryBytes < lengthBytes) {
      throw elfError(`segment ${i} has an impossible size or address`);
    }
    if (memoryBytes === 0) continue;
    segments.push({
      source: "kernel",
      gpa,
      fileOffset,
      lengthBytes,
      zeroTailBytes: memoryBytes - lengthBytes,
    });
  }
  if (segments.length === 0) throw elfError("file has no loadable segment");
  return { segments, pvhEntry };
}

/** The entry in a note segment, or undefined; malformed notes end the search. */
function findPvhEntry(notes: Uint8Array, align: number): number | undefined {
  const view = viewOf(notes);
  const unit = align === 8 ? 8 : 4;
  const padded = (size: number) => Math.ceil(size / unit) * unit;
  let at = 0;
  while (at + NHDR.size <= notes.length) {
    const nameBytes = view.getUint32(at + NHDR.namesz, true);
    const descriptorBytes = view.getUint32(at + NHDR.descsz, true);
    const nameAt = at + NHDR.size;
    const descriptorAt = padded(nameAt + nameBytes);
    if (descriptorAt + descriptorBytes > notes.length) return undefined;
    const name = String.fromCharCode(...notes.subarray(nameAt, nameAt + Math.min(nameBytes, 8)));
    if (
      view.getUint32(at + NHDR.type, true) === XEN_ELFNOTE_PHYS32_ENTRY && name === XEN_NOTE_NAME &&
      descriptorBytes >= 4
    ) {
      return view.getUint32(descriptorAt, true); // a 64-bit descriptor also holds a 32-bit address
    }
    at = padded(descriptorAt + descriptorBytes);
  }
  return undefined;
}

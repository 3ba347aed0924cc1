/**
 * Guests of a few bytes: a PVH ELF around machine code, entered in 32-bit protected mode.
 *
 * They start in microseconds where a Linux guest takes seconds, and tell what they saw through the serial port.
 */

const LOAD_GPA = 0x20_0000;
const HEADER_BYTES = 0x1000;
const XEN_ELFNOTE_PHYS32_ENTRY = 18;

/** An ELF file with a PVH note that loads `code` at 2 MiB and enters it at its first byte. */
export function pvhElf(code: Uint8Array): Uint8Array<ArrayBuffer> {
  const file = new Uint8Array(HEADER_BYTES + code.length);
  const view = new DataView(file.buffer);
  const u16 = (at: number, value: number) => view.setUint16(at, value, true);
  const u32 = (at: number, value: number) => view.setUint32(at, value, true);
  const u64 = (at: number, value: number) => view.setBigUint64(at, BigInt(value), true);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]); // ELF64, little endian
  u16(16, 2); // ET_EXEC
  u16(18, 62); // EM_X86_64
  u32(20, 1);
  u64(24, LOAD_GPA);
  u64(32, 64); // program headers behind the ELF header
  u16(52, 64);
  u16(54, 56);
  u16(56, 2);
  const programHeader = (at: number, type: number, offset: number, size: number) => {
    u32(at, type);
    u32(at + 4, 5);
    u64(at + 8, offset);
    u64(at + 16, LOAD_GPA);
    u64(at + 24, LOAD_GPA);
    u64(at + 32, size);
    u64(at + 40, size);
    u64(at + 48, 4);
  };
  const noteAt = 64 + 2 * 56;
  programHeader(64, 1, HEADER_BYTES, code.length);
  programHeader(64 + 56, 4, noteAt, 20);
  u32(noteAt, 4);
  u32(noteAt + 4, 4);
  u32(noteAt + 8, XEN_ELFNOTE_PHYS32_ENTRY);
  file.set(new TextEncoder().encode("Xen\0"), noteAt + 12);
  u32(noteAt + 16, LOAD_GPA);
  file.set(code, HEADER_BYTES);
  return file;
}

/** Machine code from hex, blanks allowed. */
export function hex(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(text.replace(/\s+/g, "").match(/../g)!.map((byte) => parseInt(byte, 16)));
}

/** Prints "U" on COM1, then spins without ever leaving guest mode. */
export const SPIN = hex("baf8030000 b055 ee ebfe");

/** Prints "U" on COM1, then halts with interrupts off. */
export const HALT = hex("baf8030000 b055 ee fa f4 ebfd");

/**
 * Prints "U", then counts in memory for ever at 3 MiB (a witness that it executes).
 * `mov $0x3f8,%edx; mov $'U',%al; out %al,%dx; 1: incl 0x300000; jmp 1b`
 */
export const COUNT = hex("baf8030000 b055 ee ff0500003000 ebf8");

/** Prints "U", then asks for power off: `mov $0x600,%edx; mov $0x34,%al; out %al,%dx; hlt`. */
export const POWER_OFF = hex("baf8030000 b055 ee ba00060000 b034 ee f4");

/** Prints "U", then resets through the keyboard controller: `mov $0xfe,%al; out %al,$0x64; hlt`. */
export const RESET = hex("baf8030000 b055 ee b0fe e664 f4");

/** Prints "U", then triple-faults: loads an empty IDT and divides by nothing. `lidt (0); ud2`. */
export const TRIPLE_FAULT = hex("baf8030000 b055 ee 0f011d00000000 0f0b");

/** Number of exits of each kind that `EXIT_COST` measures. */
export const EXIT_COST_ROUNDS = 20_000;

/**
 * Measures exits in cycles: "B", eight raw bytes for 20,000 port writes to nothing, eight for as many MMIO writes to
 * nothing, "E"; then halts. Both sums are little-endian TSC differences.
 */
export const EXIT_COST = hex(`
  bc00003000 baf8030000 b042 ee bf204e0000 0f31 89c6 89d5 ba00500000 ee 4f 75fc e826000000
  bf204e0000 bb000000d0 0f31 89c6 89d5 8903 4f 75fb e80c000000 baf8030000 b045 ee fa f4 ebfd
  0f31 29f0 19ea 89d3 baf8030000 b904000000 ee c1e808 49 75f9 89d8 b904000000 ee c1e808 49 75f9 c3`);

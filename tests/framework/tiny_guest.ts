/**
 * Guests of a few bytes: a PVH ELF around machine code, entered in 32-bit protected mode.
 *
 * They start in microseconds where a Linux guest takes seconds, and tell what they saw through the serial port.
 */
export { pvhElf } from "@vmm/arch/x86_64/loader/tiny_elf.ts";

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

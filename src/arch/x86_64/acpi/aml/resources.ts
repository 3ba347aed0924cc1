/**
 * Resource descriptors and templates for `_CRS`.
 *
 * L2, any isolate; pure. Source: ACPI 6.5 §6.4.
 */
import { type Aml, buffer, dword, op, qword, word } from "./encode.ts";

/** Large descriptor types (tag byte). */
const MEMORY32_FIXED = 0x86;
const WORD_ADDRESS_SPACE = 0x88;
const EXTENDED_INTERRUPT = 0x89;
const QWORD_ADDRESS_SPACE = 0x8a;
/** Small descriptors: type and length in one byte. */
const IO_PORT = 0x47;
const END_TAG = 0x79;

/** Resource types of the address space descriptors. */
const TYPE_MEMORY = 0;
const TYPE_IO = 1;
const TYPE_BUS = 2;

/** General flags: minimum and maximum address fixed. */
const MIN_MAX_FIXED = (1 << 2) | (1 << 3);
const MEMORY_READ_WRITE = 1;
const MEMORY_CACHEABLE = 1 << 1;
const IO_ENTIRE_RANGE = 3;

const CONSUMER = 1;
const EDGE_TRIGGERED = 1 << 1;

/** A `ResourceTemplate () { … }` buffer: descriptors and an end tag whose zero checksum counts as correct. */
export function resourceTemplate(...descriptors: readonly Aml[]): Aml {
  return buffer(descriptors.join("") + op(END_TAG, 0));
}

/** `QWordMemory`: a produced range of read-write memory, `min` and `max` inclusive. */
export function qwordMemory(
  min: number | bigint,
  max: number | bigint,
  lengthBytes: number | bigint,
  cacheable = false,
): Aml {
  const typeFlags = MEMORY_READ_WRITE | (cacheable ? MEMORY_CACHEABLE : 0);
  return op(QWORD_ADDRESS_SPACE) + word(0x2b) + op(TYPE_MEMORY, MIN_MAX_FIXED, typeFlags) +
    qword(0) + qword(min) + qword(max) + qword(0) + qword(lengthBytes);
}

/** `QWordMemory` for a span of addresses. */
export function memoryWindow(range: { readonly gpa: number; readonly sizeBytes: number }): Aml {
  return qwordMemory(range.gpa, range.gpa + range.sizeBytes - 1, range.sizeBytes);
}

/** `Memory32Fixed (ReadWrite, base, length)` */
export function memory32Fixed(base: number, lengthBytes: number): Aml {
  return op(MEMORY32_FIXED) + word(9) + op(MEMORY_READ_WRITE) + dword(base) + dword(lengthBytes);
}

/** `IO (Decode16, base, base, alignment, length)` */
export function ioPorts(base: number, count: number, alignment: number): Aml {
  return op(IO_PORT, 1) + word(base) + word(base) + op(alignment, count);
}

/** `WordIO` over the whole range, `min` and `max` inclusive. */
export function wordIo(min: number, max: number): Aml {
  return wordSpace(TYPE_IO, IO_ENTIRE_RANGE, min, max);
}

/** `WordBusNumber`, `min` and `max` inclusive. */
export function wordBusNumber(min: number, max: number): Aml {
  return wordSpace(TYPE_BUS, 0, min, max);
}

function wordSpace(type: number, typeFlags: number, min: number, max: number): Aml {
  return op(WORD_ADDRESS_SPACE) + word(0x0d) + op(type, MIN_MAX_FIXED, typeFlags) +
    word(0) + word(min) + word(max) + word(0) + word(max - min + 1);
}

/** `Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive)` */
export function edgeInterrupt(gsi: number): Aml {
  return op(EXTENDED_INTERRUPT) + word(6) + op(CONSUMER | EDGE_TRIGGERED, 1) + dword(gsi);
}

/**
 * ioctl request codes, derived from direction, type letter, number and argument structure.
 *
 * L0, any isolate. Source: include/uapi/asm-generic/ioctl.h.
 */
import type { StructLayout } from "./struct.ts";

const DIRECTION_NONE = 0;
const DIRECTION_WRITE = 1;
const DIRECTION_READ = 2;
const TYPE_SHIFT = 8;
const SIZE_SHIFT = 16;
const DIRECTION_SHIFT = 30;

/** Argument of an ioctl: a structure table, or a plain size in bytes. */
type Argument = StructLayout | number;

/** Every code made so far, for the ABI check. */
export const ALL_IOCTLS: { name: string; code: number }[] = [];

function code(name: string, direction: number, type: number, nr: number, argument: Argument): number {
  const size = typeof argument === "number" ? argument : argument.size;
  const value = ((direction << DIRECTION_SHIFT) | (size << SIZE_SHIFT) | (type << TYPE_SHIFT) | nr) >>> 0;
  ALL_IOCTLS.push({ name, code: value });
  return value;
}

/** `_IO(type, nr)`: no argument, or one passed by value. */
export const io = (name: string, type: number, nr: number): number => code(name, DIRECTION_NONE, type, nr, 0);
/** `_IOW(type, nr, argument)`: the kernel reads the argument. */
export const iow = (name: string, type: number, nr: number, argument: Argument): number =>
  code(name, DIRECTION_WRITE, type, nr, argument);
/** `_IOR(type, nr, argument)`: the kernel writes the argument. */
export const ior = (name: string, type: number, nr: number, argument: Argument): number =>
  code(name, DIRECTION_READ, type, nr, argument);
/** `_IOWR(type, nr, argument)`: both. */
export const iowr = (name: string, type: number, nr: number, argument: Argument): number =>
  code(name, DIRECTION_READ | DIRECTION_WRITE, type, nr, argument);

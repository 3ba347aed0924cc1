/**
 * Sizes and range operations of host block devices, and the alignment direct I/O needs.
 *
 * L0, any isolate, cold paths. Source: linux/fs.h (BLK*), statx(2) STATX_DIOALIGN.
 */
import { io, ior } from "../abi/ioctl.ts";
import { struct } from "../abi/struct.ts";
import { addressOf, check, cString, SYS, syscall, word } from "./syscall.ts";

const BLK = 0x12;
const BLKSSZGET = io("BLKSSZGET", BLK, 104);
const BLKGETSIZE64 = ior("BLKGETSIZE64", BLK, 114, 8);
const BLKDISCARD = io("BLKDISCARD", BLK, 119);
const BLKIOMIN = io("BLKIOMIN", BLK, 120);
const BLKIOOPT = io("BLKIOOPT", BLK, 121);
const BLKPBSZGET = io("BLKPBSZGET", BLK, 123);
const BLKZEROOUT = io("BLKZEROOUT", BLK, 127);

const SYS_STATX = 332n;
const AT_EMPTY_PATH = 0x1000n;
const STATX_DIOALIGN = 0x2000;

/** struct statx, as far as the direct I/O fields. */
export const Statx = struct("statx", {
  stx_mask: "u32",
  rest: { bytes: 148 },
  stx_dio_mem_align: "u32",
  stx_dio_offset_align: "u32",
  raw: { bytes: 96 },
}, { size: 256, source: "linux/stat.h" });

function ask(fd: number, request: number, name: string): number {
  const answer = new Uint8Array(8);
  check(syscall(SYS.ioctl, word(fd), BigInt(request), addressOf(answer)), name, `fd ${fd}`);
  return Number(new DataView(answer.buffer).getBigUint64(0, true));
}

/** Size of a block device in bytes. @throws OsError */
export const deviceSizeBytes = (fd: number): number => ask(fd, BLKGETSIZE64, "BLKGETSIZE64");

/** Block sizes of a block device, all in bytes; `optimalIo` 0 when the device names none. @throws OsError */
export function deviceTopology(
  fd: number,
): { logical: number; physical: number; minimumIo: number; optimalIo: number } {
  return {
    logical: ask(fd, BLKSSZGET, "BLKSSZGET"),
    physical: ask(fd, BLKPBSZGET, "BLKPBSZGET"),
    minimumIo: ask(fd, BLKIOMIN, "BLKIOMIN"),
    optimalIo: ask(fd, BLKIOOPT, "BLKIOOPT"),
  };
}

function onRange(fd: number, request: number, offset: number, lengthBytes: number): number {
  const range = new BigUint64Array([BigInt(offset), BigInt(lengthBytes)]);
  return Number(syscall(SYS.ioctl, word(fd), BigInt(request), addressOf(new Uint8Array(range.buffer))));
}

/** Tells the device that a range is not needed; 0 or `-errno` (−EOPNOTSUPP without trim). */
export const discardRange = (fd: number, offset: number, lengthBytes: number): number =>
  onRange(fd, BLKDISCARD, offset, lengthBytes);

/** Zeroes a range, by the kernel writing zeroes if the device cannot; 0 or `-errno`. */
export const zeroRange = (fd: number, offset: number, lengthBytes: number): number =>
  onRange(fd, BLKZEROOUT, offset, lengthBytes);

/**
 * What addresses, offsets and lengths of direct I/O on this file must be multiples of, in bytes; 0 if the kernel does
 * not say (then the caller assumes a sector).
 */
export function directIoAlignment(fd: number): number {
  const answer = new Uint8Array(Statx.size);
  const empty = cString("");
  const result = syscall(
    SYS_STATX,
    word(fd),
    addressOf(empty),
    AT_EMPTY_PATH,
    BigInt(STATX_DIOALIGN),
    addressOf(answer),
  );
  if (result !== 0n) return 0;
  const view = new DataView(answer.buffer);
  const at = Statx.offsets;
  if ((view.getUint32(at.stx_mask, true) & STATX_DIOALIGN) === 0) return 0;
  const memory = view.getUint32(at.stx_dio_mem_align, true);
  return memory === 0 ? 0 : Math.max(memory, view.getUint32(at.stx_dio_offset_align, true));
}

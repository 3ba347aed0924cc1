/**
 * Terminals: raw mode, window size, and new pseudo-terminals.
 *
 * L0, any isolate, cold paths. Source: termios(3), ioctl_tty(2), ptmx(4).
 */
import { io, ior, iow } from "../abi/ioctl.ts";
import { struct, StructBuffer } from "../abi/struct.ts";
import { close, O, open } from "./fd.ts";
import { addressOf, check, SYS, syscall, word } from "./syscall.ts";

/** The kernel's struct termios (not glibc's, which is longer). */
export const Termios = struct("termios", {
  c_iflag: "u32",
  c_oflag: "u32",
  c_cflag: "u32",
  c_lflag: "u32",
  c_line: "u8",
  c_cc: { bytes: 19 },
}, { size: 36, source: "asm/termbits.h" });

/** struct winsize. */
export const Winsize = struct(
  "winsize",
  { ws_row: "u16", ws_col: "u16", ws_xpixel: "u16", ws_ypixel: "u16" },
  {
    size: 8,
    source: "asm/termios.h",
  },
);

const TTY = 0x54; // 'T'
const TCGETS = io("TCGETS", TTY, 0x01);
const TCSETS = io("TCSETS", TTY, 0x02);
const TIOCGWINSZ = io("TIOCGWINSZ", TTY, 0x13);
const TIOCSWINSZ = io("TIOCSWINSZ", TTY, 0x14);
const TIOCGPTN = ior("TIOCGPTN", TTY, 0x30, 4);
const TIOCSPTLCK = iow("TIOCSPTLCK", TTY, 0x31, 4);
const TIOCGPTPEER = io("TIOCGPTPEER", TTY, 0x41);

/** Input, output, control and local mode bits that raw mode changes (asm/termbits.h). */
const IFLAG = {
  IGNBRK: 1,
  BRKINT: 2,
  PARMRK: 8,
  ISTRIP: 0x20,
  INLCR: 0x40,
  IGNCR: 0x80,
  ICRNL: 0x100,
  IXON: 0x400,
};
const OPOST = 1;
const CFLAG = { CSIZE: 0x30, CS8: 0x30, PARENB: 0x100 };
const LFLAG = { ISIG: 1, ICANON: 2, ECHO: 8, ECHONL: 0x40, IEXTEN: 0x8000 };
/** Indices into `c_cc`. */
const VTIME = 5;
const VMIN = 6;

const anyOf = (bits: Record<string, number>): number =>
  Object.values(bits).reduce((all, bit) => all | bit, 0);

function control(fd: number, code: number, name: string, argument: bigint): number {
  return check(syscall(SYS.ioctl, word(fd), BigInt(code), argument), name, `fd ${fd}`);
}

/** Mode of a terminal, as `setTerminalMode` takes it back. On a pty master: of its slave. @throws OsError, ENOTTY */
export function terminalMode(fd: number): Uint8Array<ArrayBuffer> {
  const mode = new Uint8Array(Termios.size);
  control(fd, TCGETS, "TCGETS", addressOf(mode));
  return mode;
}

/** Sets the mode of a terminal at once. @throws OsError */
export function setTerminalMode(fd: number, mode: Uint8Array<ArrayBuffer>): void {
  control(fd, TCSETS, "TCSETS", addressOf(mode));
}

/** `mode` with every translation, echo and signal key off, 8 bits, reads returning from the first byte on. */
export function rawMode(mode: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const raw = new StructBuffer(Termios);
  raw.bytes.set(mode);
  raw.set("c_iflag", (raw.get("c_iflag") & ~anyOf(IFLAG)) >>> 0);
  raw.set("c_oflag", (raw.get("c_oflag") & ~OPOST) >>> 0);
  raw.set("c_cflag", ((raw.get("c_cflag") & ~(CFLAG.CSIZE | CFLAG.PARENB)) | CFLAG.CS8) >>> 0);
  raw.set("c_lflag", (raw.get("c_lflag") & ~anyOf(LFLAG)) >>> 0);
  raw.field("c_cc")[VTIME] = 0;
  raw.field("c_cc")[VMIN] = 1;
  return raw.bytes;
}

/** Whether `fd` is a terminal. Never throws. */
export function isTerminal(fd: number): boolean {
  return syscall(SYS.ioctl, word(fd), BigInt(TCGETS), addressOf(new Uint8Array(Termios.size))) === 0n;
}

/** Size of a terminal in characters, or undefined when `fd` is none. Never throws. */
export function windowSize(fd: number): { columns: number; rows: number } | undefined {
  const size = new StructBuffer(Winsize);
  if (syscall(SYS.ioctl, word(fd), BigInt(TIOCGWINSZ), addressOf(size.bytes)) !== 0n) return undefined;
  return { columns: size.get("ws_col"), rows: size.get("ws_row") };
}

/** Sets the size of a terminal in characters. @throws OsError */
export function setWindowSize(fd: number, columns: number, rows: number): void {
  const size = new StructBuffer(Winsize).set("ws_col", columns).set("ws_row", rows);
  control(fd, TIOCSWINSZ, "TIOCSWINSZ", addressOf(size.bytes));
}

/** A new pseudo-terminal: its master, and the path under which others open the slave. */
export interface PseudoTerminal {
  /** Non-blocking. Reports a hang-up until somebody opens the slave. */
  readonly masterFd: number;
  readonly path: string;
}

/** Allocates a pseudo-terminal in raw mode whose slave nobody has open. @throws OsError */
export function openPseudoTerminal(): PseudoTerminal {
  const masterFd = open("/dev/ptmx", O.RDWR | O.NOCTTY | O.NONBLOCK);
  try {
    const number = new Int32Array(1);
    control(masterFd, TIOCSPTLCK, "TIOCSPTLCK", addressOf(new Uint8Array(number.buffer)));
    control(masterFd, TIOCGPTN, "TIOCGPTN", addressOf(new Uint8Array(number.buffer)));
    setTerminalMode(masterFd, rawMode(terminalMode(masterFd)));
    // Opened and closed once: only a slave that was open before makes its master report the hang-up.
    close(control(masterFd, TIOCGPTPEER, "TIOCGPTPEER", BigInt(O.RDWR | O.NOCTTY | O.CLOEXEC)));
    return { masterFd, path: `/dev/pts/${number[0]}` };
  } catch (error) {
    close(masterFd);
    throw error;
  }
}

/**
 * Opening and closing of what a console is connected to.
 *
 * L4, main isolate. The result is plain and goes to the Workers, which use `ByteOutput` and `openCharDevice` on it.
 * Source: spec/machine-model.md §8 "console modes"; error texts of the original.
 */
import { errorName, errorText, OsError } from "@ffi/abi/errno.ts";
import { close, duplicate, fileStatus, FileType, O, open, S_IFMT } from "@ffi/libc/fd.ts";
import { isTerminal, openPseudoTerminal, windowSize } from "@ffi/libc/pty.ts";
import type { WindowSize } from "@vmm/bus/char_device.ts";
import { ConfigError } from "@vmm/errors/config_error.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import { HostError } from "@vmm/errors/host_error.ts";
import { openSocketFile, removeSocketFile } from "@vmm/backends/socket_file.ts";
import { ChardevBlock, NO_WRITER, Unheard } from "./chardev_block.ts";
import { acquireTerminals, releaseTerminals } from "./terminal.ts";

/** Where a console's bytes go: the part of a console's configuration that matters here. */
export interface ChardevRequest {
  readonly mode: "Off" | "Null" | "Tty" | "File" | "Pty" | "Socket";
  readonly file?: string | null;
  readonly socket?: string | null;
}

/** An open back-end. Plain and cloneable. Descriptors are −1 where the kind has none; main owns them. */
export interface ChardevDescriptor {
  readonly kind: "null" | "tty" | "file" | "pty" | "socket";
  /** Path of the file, terminal or socket; for a pty the one clients learn from `vm.info`. */
  readonly path: string | undefined;
  readonly readFd: number;
  readonly writeFd: number;
  readonly listenFd: number;
  /** The descriptors may block: each use asks first. */
  readonly blocking: boolean;
  /** A `ChardevBlock`. */
  readonly block: SharedArrayBuffer;
  /** Whether it holds the user's terminal in raw mode. */
  readonly terminal: boolean;
  /** Inode of the socket file, so that only our own is removed. */
  readonly socketInode: number | undefined;
}

const CONTEXT = "Error creating console devices";
const STDIN = 0;
const STDOUT = 1;
const FILE_MODE = 0o666;

/**
 * Opens the back-end of a console: files are truncated, terminals allocated, sockets bound; the user's terminal becomes
 * raw. Undefined in mode `Off`.
 *
 * @param name field of the VM configuration: "serial", "console" or "debug_console"; only "serial" may be a socket
 * @throws ConfigError when a path is missing; HostError, ContextError with the original's texts
 */
export function openChardev(name: string, request: ChardevRequest): ChardevDescriptor | undefined {
  try {
    switch (request.mode) {
      case "Off":
        return undefined;
      case "Null":
        return describe("null", {});
      case "Tty":
        return openTty();
      case "File":
        return openFile(requiredPath(name, "file", request.file));
      case "Pty": {
        const { masterFd, path } = openPseudoTerminal();
        return describe("pty", { readFd: masterFd, writeFd: masterFd, path });
      }
      case "Socket":
        return openSocket(name, request.socket);
    }
  } catch (error) {
    if (!(error instanceof OsError)) throw error;
    throw new HostError({
      messages: [CONTEXT, "Error creating console device"],
      errno: error.code,
      errnoName: errorName(error.code),
      errnoText: errorText(error.code),
      call: error.call,
      path: error.subject,
    });
  }
}

/** The VMM's standard output as a back-end without input: where firmware prints. */
export function openStandardOutput(): ChardevDescriptor {
  return describe("tty", reopenOutput());
}

/** Size of the terminal behind a back-end, or undefined when there is none. */
export function chardevWindowSize(descriptor: ChardevDescriptor): WindowSize | undefined {
  return descriptor.writeFd < 0 ? undefined : windowSize(descriptor.writeFd);
}

/** Closes a back-end and removes its socket file; the terminal's mode is restored with its last user. Never throws. */
export function closeChardev(descriptor: ChardevDescriptor): void {
  const { readFd, writeFd, listenFd, path, socketInode, terminal } = descriptor;
  const state = ChardevBlock.attach(descriptor.block);
  state.lock();
  state.writer = NO_WRITER;
  state.unheard = Unheard.discard;
  state.unlock();
  for (const fd of new Set([readFd, writeFd, listenFd])) close(fd);
  if (terminal) releaseTerminals();
  if (path !== undefined) removeSocketFile({ path, inode: socketInode });
}

/** Nothing is ever kept for nobody: all back-ends of mode Null share one block. */
let nullBlock: SharedArrayBuffer | undefined;

function describe(
  kind: ChardevDescriptor["kind"],
  parts: Partial<Omit<ChardevDescriptor, "kind" | "block">>,
): ChardevDescriptor {
  const state = kind === "null"
    ? ChardevBlock.attach(nullBlock ??= ChardevBlock.create().buffer)
    : ChardevBlock.create();
  // A pty and a socket get their writer from the I/O Worker when somebody comes; a descriptor that is there hears at once.
  const waits = kind === "pty" || kind === "socket";
  state.writer = waits ? NO_WRITER : parts.writeFd ?? NO_WRITER;
  state.unheard = waits ? Unheard.keep : Unheard.discard;
  return {
    path: undefined,
    readFd: -1,
    writeFd: -1,
    listenFd: -1,
    blocking: false,
    terminal: false,
    socketInode: undefined,
    ...parts,
    kind,
    block: state.buffer,
  };
}

function requiredPath(name: string, field: string, path: string | null | undefined): string {
  if (path !== undefined && path !== null) return path;
  throw new ConfigError({ messages: ["Path missing"], fieldPath: `${name}.${field}` });
}

/**
 * Standard streams are shared with whoever started us, and so is their non-blocking mode: a terminal or pipe is opened
 * anew instead. A regular file must not be (its position is shared on purpose) and never blocks; a socket cannot be.
 */
function reopen(fd: number, flags: number): { fd: number; blocking: boolean } {
  if ((fileStatus(fd).mode & S_IFMT) === FileType.regular) return { fd: duplicate(fd), blocking: false };
  try {
    return { fd: open(`/proc/self/fd/${fd}`, flags | O.NONBLOCK | O.NOCTTY), blocking: false };
  } catch {
    // A socket, or a terminal that belongs to another user.
    return { fd: duplicate(fd), blocking: true };
  }
}

function reopenOutput(): { writeFd: number; blocking: boolean } {
  const { fd, blocking } = reopen(STDOUT, O.WRONLY);
  return { writeFd: fd, blocking };
}

function openTty(): ChardevDescriptor {
  acquireTerminals();
  const output = reopenOutput();
  const input = isTerminal(STDIN) ? reopen(STDIN, O.RDONLY) : { fd: -1, blocking: false };
  return describe("tty", {
    writeFd: output.writeFd,
    readFd: input.fd,
    blocking: output.blocking || input.blocking,
    terminal: true,
  });
}

function openFile(path: string): ChardevDescriptor {
  // A FIFO nobody reads yet: opened for both directions it takes output at once instead of blocking the open.
  const direction = isFifo(path) ? O.RDWR : O.WRONLY;
  const writeFd = open(path, direction | O.CREAT | O.TRUNC | O.NONBLOCK | O.NOCTTY, FILE_MODE);
  return describe("file", { writeFd, path });
}

function openSocket(name: string, socket: string | null | undefined): ChardevDescriptor {
  if (name !== "serial") {
    throw new ContextError([CONTEXT], new Error("No socket option support for console device"));
  }
  const path = requiredPath(name, "socket", socket);
  const { fd: listenFd, inode: socketInode } = openSocketFile(path);
  return describe("socket", { listenFd, path, socketInode });
}

function isFifo(path: string): boolean {
  try {
    return Deno.statSync(path).isFifo === true;
  } catch {
    return false; // missing: `open` creates it or says what is wrong
  }
}

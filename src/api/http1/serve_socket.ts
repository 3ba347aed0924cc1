/**
 * The API's UNIX socket: its lock, taking over what a dead program left, removal at the end.
 *
 * L6, main isolate, once at start. Source: spec/rest-api.md §1; error texts observed on the original.
 */
import { Errno, OsError } from "@ffi/abi/errno.ts";
import { close, fileStatus, O, open, S_IFMT, setNonBlocking } from "@ffi/libc/fd.ts";
import { setLock } from "@ffi/libc/lock.ts";
import { isListening, listenUnix } from "@ffi/libc/socket.ts";
import { socketPathFault } from "@vmm/base/socket_path.ts";

const SOCKET_MODE = 0o140000;
const LOCK_MODE = 0o600;
const WHOLE_FILE = { start: 0n, lengthBytes: 0n };
const CREATION_FAILED = "Error creation API server's socket";

/** A path that is ours alone until it is given up. */
export interface ClaimedPath {
  readonly path: string;
  /** Removes the socket and gives the path up; the lock file stays. For a clean exit only. Never throws. */
  remove(): void;
  /** Gives the path up as it is. Never throws. */
  release(): void;
}

/**
 * Takes the lock of `path` and removes a socket nobody listens on any more: whoever holds the lock owns the path.
 * @throws Error with the reason as cause, or saying that the path is in use
 */
export function claimPath(path: string): ClaimedPath {
  const fault = socketPathFault(path);
  if (fault !== undefined) throw new Error(CREATION_FAILED, { cause: new Error(fault) });
  let lock = -1;
  try {
    lock = open(`${path}.lock`, O.RDWR | O.CREAT, LOCK_MODE);
    const result = setLock(lock, "write", WHOLE_FILE);
    if (result < 0 && result !== -Errno.EAGAIN) throw new OsError(-result, "fcntl", `${path}.lock`);
    if (result < 0) throw new PathInUse(path);
  } catch (error) {
    close(lock);
    throw error instanceof PathInUse ? error : new Error(CREATION_FAILED, { cause: error });
  }
  removeQuietly(path);
  // The kernel drops the lock with its descriptor, even after a crash.
  let held = true;
  const release = () => {
    if (held) close(lock);
    held = false;
  };
  const remove = () => {
    if (held) removeQuietly(path);
    release();
  };
  return { path, remove, release };
}

class PathInUse extends Error {
  constructor(path: string) {
    super(`API socket ${JSON.stringify(path)} is already in use by another running instance`);
  }
}

/** Which file the path of a socket names now; undefined: none that could be told from others. @throws when it is not there */
export function fileAt(path: string): string | undefined {
  // An abstract socket begins with NUL and has no file.
  if (path === "" || path.startsWith("\0")) return undefined;
  const { dev, ino } = Deno.lstatSync(path);
  return `${dev}:${ino}`;
}

/** Removes a file; a directory stays, what is not there is no error. */
function removeQuietly(path: string): void {
  try {
    if (!Deno.lstatSync(path).isDirectory) Deno.removeSync(path);
  } catch {
    // Not there, or not ours to remove: binding reports what matters.
  }
}

/** Listens on a claimed path. @throws Error with the reason as cause */
export function listenOn({ path, release }: ClaimedPath): number {
  try {
    return listenUnix(path);
  } catch (cause) {
    release();
    throw new Error(CREATION_FAILED, { cause });
  }
}

/** Uses a descriptor that already listens. @throws Error with the reason as cause when it does not */
export function adoptListener(fd: number): number {
  try {
    if ((fileStatus(fd).mode & S_IFMT) !== SOCKET_MODE) throw new Error(`Descriptor ${fd} is not a socket`);
    if (!isListening(fd)) throw new Error(`Descriptor ${fd} does not listen`);
    setNonBlocking(fd, true);
    return fd;
  } catch (cause) {
    throw new Error(CREATION_FAILED, { cause });
  }
}

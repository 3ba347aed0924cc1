/**
 * Listening sockets that have a file: made, taken over from a process that died, removed.
 *
 * L4, main isolate.
 */
import { Errno, OsError } from "@ffi/abi/errno.ts";
import { close } from "@ffi/libc/fd.ts";
import { connectUnix, listenUnix } from "@ffi/libc/socket.ts";

/** A listening socket, and which file is its own. */
export interface SocketFile {
  readonly fd: number;
  readonly path: string;
  /** Undefined without a file: the kernel chose the address. */
  readonly inode: number | undefined;
}

/**
 * Binds and listens. A socket file that a killed process left, so that nobody listens on it, is replaced; every other file
 * stays. @throws OsError, EADDRINUSE when the path is in use
 */
export function openSocketFile(path: string, backlog?: number): SocketFile {
  let fd: number;
  try {
    fd = listenUnix(path, backlog);
  } catch (error) {
    if (!(error instanceof OsError) || error.code !== Errno.EADDRINUSE || !isStale(path)) throw error;
    removeFile(path);
    fd = listenUnix(path, backlog);
  }
  return { fd, path, inode: inodeOf(path) };
}

/** Removes the file, if it is still the one that was made. The descriptor is the caller's. Never throws. */
export function removeSocketFile({ path, inode }: Omit<SocketFile, "fd">): void {
  if (inode !== undefined && inodeOf(path) === inode) removeFile(path);
}

function isStale(path: string): boolean {
  try {
    if (Deno.lstatSync(path).isSocket !== true) return false;
    close(connectUnix(path));
    return false;
  } catch (error) {
    return error instanceof OsError && error.code === Errno.ECONNREFUSED;
  }
}

function inodeOf(path: string): number | undefined {
  try {
    return Deno.lstatSync(path).ino ?? undefined;
  } catch {
    return undefined;
  }
}

function removeFile(path: string): void {
  try {
    Deno.removeSync(path);
  } catch {
    // Gone already, or the directory became read-only: nobody listens on what is left, so the next start replaces it.
  }
}

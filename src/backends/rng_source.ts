/**
 * A file as a source of random bytes: /dev/urandom, /dev/random, a hardware generator, a pipe.
 *
 * L4. Main opens it, non-blocking, so that a source without entropy never holds up an I/O Worker.
 * Source: random(4).
 */
import { fileStatus, FileType, O, open, S_IFMT } from "@ffi/libc/fd.ts";
import { readv } from "@ffi/libc/io.ts";
import type { ByteSource } from "@vmm/virtio/ports/bytes.ts";

/** An open source: plain and cloneable. The descriptor is main's to close. */
export interface RngSource {
  readonly fd: number;
  /** False for files epoll refuses. */
  readonly canPoll: boolean;
}

/** Devices that can be waited for; other character devices (/dev/hwrng) cannot, and epoll would claim they are ready. */
const POLLABLE_DEVICES = ["/dev/random", "/dev/urandom"];

/** Opens a source on main. @throws OsError */
export function openRngSource(path: string): RngSource {
  const fd = open(path, O.RDONLY | O.NONBLOCK);
  const type = fileStatus(fd).mode & S_IFMT;
  const waits = type !== FileType.regular && type !== FileType.block && type !== FileType.character;
  return { fd, canPoll: waits || POLLABLE_DEVICES.includes(path) };
}

/** The source in the Worker that reads it. */
export function attachRngSource(source: RngSource): ByteSource {
  return { pollFd: source.canPoll ? source.fd : -1, read: (iov, count) => readv(source.fd, iov, count) };
}

/**
 * Asking a descriptor for its state, without waiting or for a short time.
 *
 * L0, any isolate; for cold paths and for descriptors that cannot be made non-blocking. Source: poll(2).
 */
import { struct, StructBuffer } from "../abi/struct.ts";
import { addressOf, SYS, syscall } from "./syscall.ts";

/** struct pollfd. */
export const Pollfd = struct("pollfd", { fd: "u32", events: "u16", revents: "u16" }, {
  size: 8,
  source: "poll.h",
});

const POLLIN = 1;
const POLLOUT = 4;
const POLLHUP = 0x10;

function poll(fd: number, events: number, timeoutMs = 0): number {
  const entry = new StructBuffer(Pollfd).set("fd", fd).set("events", events);
  return syscall(SYS.poll, addressOf(entry.bytes), 1n, BigInt(timeoutMs)) > 0n ? entry.get("revents") : 0;
}

/** Whether a write of a few bytes would not wait. */
export function canWrite(fd: number): boolean {
  return (poll(fd, POLLOUT) & POLLOUT) !== 0;
}

/** Whether a read would not wait: there are bytes, or the end. */
export function canRead(fd: number): boolean {
  return poll(fd, POLLIN) !== 0;
}

/** Blocks the thread until a read would not wait, at most `timeoutMs`; false when that time went by. */
export function waitReadable(fd: number, timeoutMs: number): boolean {
  return poll(fd, POLLIN, Math.max(0, Math.ceil(timeoutMs))) !== 0;
}

/** Whether the other side is there or has left bytes to read. */
export function hasPeer(fd: number): boolean {
  const ready = poll(fd, POLLIN);
  return (ready & POLLHUP) === 0 || (ready & POLLIN) !== 0;
}

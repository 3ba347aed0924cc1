/**
 * ioctl on KVM's descriptors, and KVM_RUN.
 *
 * L0, main isolate, vCPU Workers and I/O Workers. Declared so that V8's fast calls apply. All return the result or
 * `-errno`, never throw.
 */
import { errno } from "../abi/errno.ts";
import { KVM } from "./codes.ts";

// SAFETY: the variadic part of ioctl is one INTEGER argument; structures are as long as their request codes say, because
// the codes are derived from the same tables.
const lib = Deno.dlopen("libc.so.6", {
  withBuffer: { name: "ioctl", parameters: ["i32", "u32", "buffer"], result: "i32" },
  withValue: { name: "ioctl", parameters: ["i32", "u32", "u64"], result: "i32" },
  withNull: { name: "ioctl", parameters: ["i32", "u32", "pointer"], result: "i32" },
});
const call = lib.symbols;

/** An ioctl whose argument is a structure. */
export function ioctlBuffer(fd: number, request: number, argument: Uint8Array<ArrayBuffer>): number {
  const result = call.withBuffer(fd, request, argument);
  return result < 0 ? -errno() : result;
}

/** An ioctl whose argument is a value. */
export function ioctlValue(fd: number, request: number, value: bigint): number {
  const result = call.withValue(fd, request, value);
  return result < 0 ? -errno() : result;
}

/** Runs a vCPU until its next exit: 0, or `-EINTR` when kicked. Blocks the thread. */
export function runVcpu(fd: number): number {
  const result = call.withNull(fd, KVM.RUN, null);
  return result < 0 ? -errno() : result;
}

/**
 * The kick signal of vCPU threads: blocked in the thread, let through only inside KVM_RUN.
 *
 * L0, vCPU Workers. A pending blocked signal makes the next KVM_RUN return EINTR at once, so no kick is ever lost and no
 * native handler is needed. Source: KVM api.rst 4.23 KVM_SET_SIGNAL_MASK, pthread_sigmask(3), rt_sigtimedwait(2).
 */
import { KICK_SIGNAL } from "./kick_signal.ts";
import { check } from "./syscall.ts";
import { SignalMask } from "../kvm/structs.ts";
import { KVM } from "../kvm/codes.ts";
import { ioctlBuffer } from "../kvm/ioctl.ts";

const SIG_BLOCK = 0;
const GLIBC_SIGSET_BYTES = 128;
const KERNEL_SIGSET_BYTES = 8;
const SYS_rt_sigtimedwait = 128n;

// SAFETY: fixed argument lists; the sets are as long as glibc's sigset_t (128) and the kernel's (8) respectively.
const lib = Deno.dlopen("libc.so.6", {
  pthread_sigmask: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  sigtimedwait: { name: "syscall", parameters: ["i64", "buffer", "u64", "buffer", "u64"], result: "i64" },
});

const kickSet = new Uint8Array(GLIBC_SIGSET_BYTES);
kickSet[(KICK_SIGNAL - 1) >> 3] = 1 << ((KICK_SIGNAL - 1) & 7);
const noWait = new Uint8Array(16);

/** Blocks the kick signal in this thread and lets it through inside KVM_RUN of `vcpuFd`. @throws OsError */
export function armKick(vcpuFd: number): void {
  const before = new Uint8Array(GLIBC_SIGSET_BYTES);
  check(BigInt(-lib.symbols.pthread_sigmask(SIG_BLOCK, kickSet, before)), "pthread_sigmask");
  before[(KICK_SIGNAL - 1) >> 3] &= ~(1 << ((KICK_SIGNAL - 1) & 7));
  const argument = new Uint8Array(SignalMask.size + KERNEL_SIGSET_BYTES);
  new DataView(argument.buffer).setUint32(SignalMask.offsets.len, KERNEL_SIGSET_BYTES, true);
  argument.set(before.subarray(0, KERNEL_SIGSET_BYTES), SignalMask.size);
  check(BigInt(ioctlBuffer(vcpuFd, KVM.SET_SIGNAL_MASK, argument)), "KVM_SET_SIGNAL_MASK");
}

/** Takes every pending kick of this thread. */
export function consumeKicks(): void {
  while (
    lib.symbols.sigtimedwait(SYS_rt_sigtimedwait, kickSet, 0n, noWait, BigInt(KERNEL_SIGSET_BYTES)) > 0n
  );
}

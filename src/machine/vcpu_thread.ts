/**
 * One vCPU as main handles it: its Worker, its control words, its kick.
 *
 * L5, main isolate. `VcpuThread` never waits synchronously; every order is acknowledged through `state`.
 */
import { KICK_SIGNAL } from "@ffi/libc/kick_signal.ts";
import { signalThread } from "@ffi/libc/thread.ts";
import type { KvmVcpu } from "@vmm/hypervisor/kvm/vcpu.ts";
import { EXIT_REASONS, VcpuControl, VcpuRequest, VcpuState } from "./vcpu_control.ts";
import { WorkerPort } from "./worker_port.ts";

/** A vCPU and the Worker that runs it. */
export class VcpuThread {
  readonly control = VcpuControl.create();

  constructor(readonly vcpu: KvmVcpu, readonly port: WorkerPort) {
    port.setKick(() => this.#ring());
  }

  /** Makes the Worker look at its words and mailbox, wherever it is. */
  #ring(): void {
    Atomics.add(this.control.words, VcpuControl.index.doorbell, 1);
    Atomics.notify(this.control.words, VcpuControl.index.doorbell);
    const tid = Atomics.load(this.control.words, VcpuControl.index.tid);
    if (tid !== 0) signalThread(tid, KICK_SIGNAL);
  }

  /** Gives an order; `settled` tells when the vCPU obeyed. */
  order(request: number): void {
    Atomics.store(this.control.words, VcpuControl.index.request, request);
    this.#ring();
  }

  /** Resolves once the vCPU is in `state`. */
  async settled(state: number): Promise<void> {
    const { words } = this.control;
    for (;;) {
      const now = Atomics.load(words, VcpuControl.index.state);
      if (now === state) return;
      const wait = Atomics.waitAsync(words, VcpuControl.index.state, now);
      if (wait.async) await wait.value;
    }
  }

  /** Stops executing the guest at the next instruction boundary. */
  async pause(): Promise<void> {
    this.order(VcpuRequest.pause);
    await this.settled(VcpuState.paused);
  }

  async resume(): Promise<void> {
    this.order(VcpuRequest.run);
    await this.settled(VcpuState.running);
  }

  /** Ends the loop for good. */
  async stop(): Promise<void> {
    this.order(VcpuRequest.stop);
    if (Atomics.load(this.control.words, VcpuControl.index.tid) !== 0) await this.settled(VcpuState.stopped);
  }

  /** Exits so far, by KVM exit reason, where any. */
  exits(): Map<number, number> {
    const counts = new Map<number, number>();
    for (let reason = 0; reason < EXIT_REASONS; reason++) {
      const count = this.control.exitsHigh[reason] * 0x1_0000_0000 + this.control.exitsLow[reason];
      if (count > 0) counts.set(reason, count);
    }
    return counts;
  }
}

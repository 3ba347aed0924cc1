/**
 * The vCPU exit loop.
 *
 * L5, runs in a vCPU Worker and nowhere else. Allocates nothing per exit: operands stay in the run page, devices read and
 * write them in place. Source: KVM api.rst §4.10 (KVM_RUN), §5 (kvm_run).
 */
import { Errno } from "@ffi/abi/errno.ts";
import { consumeKicks } from "@ffi/libc/signal.ts";
import { runVcpu } from "@ffi/kvm/ioctl.ts";
import { KvmExit, RunPage } from "@ffi/kvm/structs.ts";
import { VcpuControl, type VcpuControlBlock, VcpuRequest, VcpuState } from "./vcpu_control.ts";

/** Where exits go. */
export interface ExitHandlers {
  /** `count` operands of `size` bytes at `dataOffset` of the run page. */
  pio(view: DataView, dataOffset: number, port: number, size: number, count: number, isWrite: boolean): void;
  mmio(gpa: number, view: DataView, dataOffset: number, size: number, isWrite: boolean): void;
  endOfInterrupt(vector: number): void;
  /** The guest asked for a reset by triple fault or a halt no interrupt can end. */
  reset(): void;
  /** The vCPU cannot go on. */
  fatal(text: string): void;
}

/** Why the loop returned. */
export type LoopEnd = "mail" | "stopped";

const PIO_OUT = 1;

/** One vCPU's loop over its run page. */
export class VcpuLoop {
  readonly #view: DataView<ArrayBuffer>;
  readonly #words: Int32Array;
  readonly #index = VcpuControl.index;
  /** Set when the guest asked for reset or power-off: the vCPU waits for main instead of running on. */
  #halted = false;

  constructor(
    private readonly fd: number,
    runPage: ArrayBuffer,
    private readonly control: VcpuControlBlock,
    private readonly handlers: ExitHandlers,
    private readonly hasMail: () => boolean,
  ) {
    this.#view = new DataView(runPage);
    this.#words = control.words;
  }

  /** Makes the vCPU wait for main's next order after the current exit. */
  halt(): void {
    this.#halted = true;
  }

  /** Runs until a message waits or main asked to stop. */
  run(): LoopEnd {
    for (;;) {
      const bell = Atomics.load(this.#words, this.#index.doorbell);
      const request = Atomics.load(this.#words, this.#index.request);
      if (request === VcpuRequest.stop) {
        this.#completePendingExit();
        this.#report(VcpuState.stopped);
        return "stopped";
      }
      if (request === VcpuRequest.pause) {
        if (this.control.state !== VcpuState.paused) {
          this.#completePendingExit();
          this.#report(VcpuState.paused);
        }
        if (this.hasMail()) return "mail";
        Atomics.wait(this.#words, this.#index.doorbell, bell);
        continue;
      }
      if (this.control.state !== VcpuState.running) this.#report(VcpuState.running);
      if (this.hasMail()) return "mail";
      if (this.#halted) {
        Atomics.wait(this.#words, this.#index.doorbell, bell);
        continue;
      }
      const result = runVcpu(this.fd);
      if (result === 0) this.#handleExit();
      else if (result === -Errno.EINTR) this.#kicked();
      else if (result !== -Errno.EAGAIN) this.#die(`KVM_RUN failed with errno ${-result}`);
    }
  }

  /** A device access left half-done by an exit is finished by entering KVM once without running the guest. */
  #completePendingExit(): void {
    this.#view.setUint8(RunPage.immediate_exit, 1);
    runVcpu(this.fd);
    this.#view.setUint8(RunPage.immediate_exit, 0);
    consumeKicks();
  }

  #kicked(): void {
    consumeKicks();
    this.control.kicks++;
  }

  #report(state: number): void {
    Atomics.store(this.#words, this.#index.state, state);
    Atomics.notify(this.#words, this.#index.state);
  }

  #die(text: string): void {
    this.#halted = true;
    this.handlers.fatal(text);
  }

  #handleExit(): void {
    const view = this.#view;
    const reason = view.getUint32(RunPage.exit_reason, true);
    this.#count(reason);
    switch (reason) {
      case KvmExit.IO: {
        const io = RunPage.io;
        this.handlers.pio(
          view,
          view.getUint32(io.data_offset, true),
          view.getUint16(io.port, true),
          view.getUint8(io.size),
          view.getUint32(io.count, true),
          view.getUint8(io.direction) === PIO_OUT,
        );
        return;
      }
      case KvmExit.MMIO: {
        const mmio = RunPage.mmio;
        const gpa = view.getUint32(mmio.phys_addr, true) +
          view.getUint32(mmio.phys_addr + 4, true) * 0x1_0000_0000;
        this.handlers.mmio(
          gpa,
          view,
          mmio.data,
          view.getUint32(mmio.len, true),
          view.getUint8(mmio.is_write) !== 0,
        );
        return;
      }
      case KvmExit.IOAPIC_EOI:
        this.handlers.endOfInterrupt(view.getUint8(RunPage.eoi.vector));
        return;
      case KvmExit.INTR:
      case KvmExit.IRQ_WINDOW_OPEN:
        return;
      case KvmExit.SHUTDOWN:
      case KvmExit.HLT:
        this.#halted = true;
        this.handlers.reset();
        return;
      default:
        this.#die(describeFatalExit(view, reason));
    }
  }

  #count(reason: number): void {
    const slot = reason & 63;
    const low = this.control.exitsLow;
    low[slot]++;
    if (low[slot] === 0) this.control.exitsHigh[slot]++;
  }
}

function describeFatalExit(view: DataView, reason: number): string {
  switch (reason) {
    case KvmExit.FAIL_ENTRY: {
      const code = view.getUint32(RunPage.fail_entry.hardware_entry_failure_reason, true);
      return `VM entry failed, hardware reason 0x${code.toString(16)}`;
    }
    case KvmExit.INTERNAL_ERROR: {
      const { suberror, ndata, data } = RunPage.internal;
      const count = Math.min(view.getUint32(ndata, true), 16);
      const words = Array.from(
        { length: count },
        (_, i) => `0x${view.getBigUint64(data + 8 * i, true).toString(16)}`,
      );
      const what = view.getUint32(suberror, true);
      const hint = what === 1 ? " (KVM could not emulate an instruction)" : "";
      return `KVM internal error, suberror ${what}${hint}${count > 0 ? `, data ${words.join(" ")}` : ""}`;
    }
    default:
      return `Unexpected VM exit, reason ${reason}`;
  }
}

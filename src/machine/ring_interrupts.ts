/**
 * Interrupts of rings that another process serves: its eventfds raise them in the kernel, without a thread of ours.
 *
 * L5, I/O Worker. A ring's eventfd is tied to its MSI-X message while that is unmasked; otherwise the Worker reads it, so
 * that the pending bit is set. vCPUs wake the Worker when they changed a vector: it follows a moment later, and raises the
 * interrupt once itself then, so that none is lost between the old message and the new one.
 * Source: KVM api.rst §4.75; PCI Local Bus 3.0 §6.8.2.
 */
import type { VmFd } from "@vmm/hypervisor/kvm/vm.ts";
import type { MsixTable } from "@vmm/pci/msix.ts";
import { QUEUE_WORDS, QueueWord, type VirtioPciState } from "@vmm/virtio/pci/block.ts";
import { IrqRoutes, NO_LINE } from "./irq_routes.ts";

/** Who reads the eventfds of rings whose interrupt the kernel does not raise. */
export interface InterruptRelay {
  readonly callFds: readonly number[];
  /** Reads the eventfd of `ring` from now on, or leaves it to the kernel. */
  relay(ring: number, on: boolean): void;
}

interface Line {
  readonly line: number;
  addressLow: number;
  addressHigh: number;
  data: number;
}

/** See the module. */
export class RingInterrupts {
  readonly #lines = new Map<number, Line>();

  constructor(
    private readonly state: VirtioPciState,
    private readonly msix: Pick<MsixTable, "message" | "signal">,
    private readonly routes: IrqRoutes,
    private readonly vm: Pick<VmFd, "irqfd">,
    private readonly relay: InterruptRelay,
  ) {}

  /** Brings all rings in line with the vectors' present state. Cheap when nothing has changed. */
  sync(): void {
    for (let ring = 0; ring < this.relay.callFds.length; ring++) {
      const vector = this.state.queues[ring * QUEUE_WORDS + QueueWord.vector];
      const message = this.msix.message(vector);
      if (message === undefined) this.#untie(ring);
      else if (this.#tie(ring, message)) this.msix.signal(vector);
    }
  }

  /** Lets go of everything. */
  close(): void {
    for (const ring of [...this.#lines.keys()]) this.#untie(ring);
  }

  /** @returns true if the ring's interrupt goes another way now */
  #tie(ring: number, message: { addressLow: number; addressHigh: number; data: number }): boolean {
    const known = this.#lines.get(ring);
    const { addressLow, addressHigh, data } = message;
    if (known !== undefined) {
      if (known.addressLow === addressLow && known.addressHigh === addressHigh && known.data === data) {
        return false;
      }
      if (!this.routes.set(known.line, addressLow, addressHigh, data)) {
        this.#untie(ring);
        return false;
      }
      Object.assign(known, message);
      return true;
    }
    const line = this.routes.take();
    if (line === NO_LINE) return false;
    const tied = this.routes.set(line, addressLow, addressHigh, data) &&
      this.vm.irqfd(this.relay.callFds[ring], IrqRoutes.gsi(line), true) === 0;
    if (!tied) {
      this.routes.free(line);
      return false;
    }
    this.#lines.set(ring, { line, ...message });
    this.relay.relay(ring, false);
    return true;
  }

  #untie(ring: number): void {
    const known = this.#lines.get(ring);
    if (known === undefined) return;
    this.#lines.delete(ring);
    this.vm.irqfd(this.relay.callFds[ring], IrqRoutes.gsi(known.line), false);
    this.routes.free(known.line);
    this.relay.relay(ring, true);
  }
}

/**
 * PCI functions by kind: what main describes and how a vCPU Worker makes register code of it.
 *
 * L5. A new kind of PCI device is a row in `FACTORIES`.
 */
import { signalEvent } from "@ffi/libc/io.ts";
import type { BusState } from "@vmm/bus/bus_block.ts";
import type { IoDevice } from "@vmm/bus/io_device.ts";
import type { EventSink, IoWake, MessageInterrupts } from "@vmm/bus/ports.ts";
import { IVSHMEM_PCI, IvshmemRegisters } from "@vmm/devices/ivshmem/ivshmem.ts";
import { PvPanic } from "@vmm/devices/pvpanic/pvpanic.ts";
import type { VmFd } from "@vmm/hypervisor/kvm/vm.ts";
import type { Aperture } from "@vmm/pci/aperture.ts";
import { type BarPort, BarRelocator } from "@vmm/pci/bar_relocator.ts";
import { ConfigSpace, type PciFunction } from "@vmm/pci/function.ts";
import { PciFunctionBlock } from "@vmm/pci/function_block.ts";
import type { EventBudgetState } from "@vmm/sync/event_budget.ts";
import { VirtioPciFunction } from "@vmm/virtio/pci/function.ts";
import { notifyAddress, VIRTIO_BAR } from "@vmm/virtio/pci/layout.ts";

/** Kinds of functions. */
export type FunctionKind = "host-bridge" | "ivshmem" | "pvpanic" | "virtio";

/** Host memory that KVM maps at a BAR. */
export interface FunctionMemory {
  readonly sizeBytes: number;
  readonly hostAddress: bigint;
  readonly kvmSlot: number;
}

/** One PCI function, plain and cloneable. */
export interface FunctionDescription {
  readonly kind: FunctionKind;
  readonly id: string;
  readonly segment: number;
  readonly slot: number;
  /** `PciFunctionBlock`, or a block that starts with its fields. */
  readonly block: SharedArrayBuffer;
  /** Queue notification descriptors of a virtio device, by queue. */
  readonly kickFds?: readonly number[];
  /** Wakes the I/O Worker that leads a virtio device, when that is not the first one. */
  readonly wakeFd?: number;
  /** What ivshmem shows through its memory BAR. */
  readonly memory?: FunctionMemory;
}

/** What functions need of the machine. */
export interface FunctionPorts {
  readonly vm: VmFd;
  readonly bus: BusState;
  readonly apertures: readonly Aperture[];
  readonly messages: MessageInterrupts;
  readonly events: EventSink;
  readonly wake: IoWake;
  /** How many panic events a guest may cause. */
  readonly panicBudget: EventBudgetState;
  readonly monotonicNs: () => number;
}

/** Nothing in the kernel is tied to the address. */
const NO_PORT: BarPort = { relocated: () => true };

/** Queue notifications follow BAR 0. */
class NotifyMover implements BarPort {
  constructor(private readonly vm: VmFd, private readonly kickFds: readonly number[]) {}

  relocated(bar: number, oldBase: number, newBase: number): boolean {
    if (bar !== VIRTIO_BAR) return true;
    for (let queue = 0; queue < this.kickFds.length; queue++) {
      const fd = this.kickFds[queue];
      if (this.vm.bindNotify({ gpa: notifyAddress(newBase, queue), fd }) < 0) {
        for (let done = 0; done < queue; done++) {
          this.vm.unbindNotify({ gpa: notifyAddress(newBase, done), fd: this.kickFds[done] });
        }
        return false;
      }
    }
    this.kickFds.forEach((fd, queue) => this.vm.unbindNotify({ gpa: notifyAddress(oldBase, queue), fd }));
    return true;
  }
}

/** Mapped memory follows its BAR. */
class MemoryMover implements BarPort {
  constructor(
    private readonly vm: VmFd,
    private readonly bar: number,
    private readonly memory: FunctionMemory,
  ) {}

  relocated(bar: number, _oldBase: number, newBase: number): boolean {
    const { kvmSlot, sizeBytes, hostAddress } = this.memory;
    return bar !== this.bar || this.vm.moveMemoryRegion(kvmSlot, newBase, sizeBytes, hostAddress) === 0;
  }
}

function plainFunction(
  fn: FunctionDescription,
  ports: FunctionPorts,
  bars: readonly IoDevice[] = [],
  port = NO_PORT,
): PciFunction {
  const moves = new BarRelocator(ports.apertures[fn.segment], ports.bus, port);
  return new ConfigSpace(PciFunctionBlock.attach(fn.block), moves, bars);
}

const FACTORIES: Record<FunctionKind, (fn: FunctionDescription, ports: FunctionPorts) => PciFunction> = {
  "host-bridge": (fn, ports) => plainFunction(fn, ports),
  ivshmem: (fn, ports) =>
    plainFunction(
      fn,
      ports,
      [new IvshmemRegisters()],
      new MemoryMover(ports.vm, IVSHMEM_PCI.memoryBar, fn.memory!),
    ),
  pvpanic: (fn, ports) =>
    plainFunction(fn, ports, [new PvPanic(ports.panicBudget, ports.monotonicNs, ports.events)]),
  virtio: (fn, ports) =>
    new VirtioPciFunction(fn.block, {
      moves: new BarRelocator(
        ports.apertures[fn.segment],
        ports.bus,
        new NotifyMover(ports.vm, fn.kickFds ?? []),
      ),
      interrupts: ports.messages,
      wake: wakeOf(fn, ports),
    }),
};

function wakeOf({ wakeFd }: FunctionDescription, ports: FunctionPorts): IoWake {
  return wakeFd === undefined ? ports.wake : { wake: () => signalEvent(wakeFd) };
}

/** Register code of a function for this isolate. */
export function createFunction(fn: FunctionDescription, ports: FunctionPorts): PciFunction {
  return FACTORIES[fn.kind](fn, ports);
}

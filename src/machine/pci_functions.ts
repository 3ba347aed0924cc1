/**
 * PCI functions by kind: what main describes and how a vCPU Worker makes register code of it.
 *
 * L5. A new kind of PCI device is a row in `FACTORIES`.
 */
import { bumpGeneration, type BusState } from "@vmm/bus/bus_block.ts";
import type { EventSink, IoWake, MessageInterrupts } from "@vmm/bus/ports.ts";
import { PvPanic } from "@vmm/devices/pvpanic/pvpanic.ts";
import type { VmFd } from "@vmm/hypervisor/kvm/vm.ts";
import type { Aperture } from "@vmm/pci/aperture.ts";
import { type BarMoves, ConfigSpace, type PciFunction } from "@vmm/pci/function.ts";
import { PciFunctionBlock } from "@vmm/pci/function_block.ts";
import type { EventBudgetState } from "@vmm/sync/event_budget.ts";

/** Kinds of functions. */
export type FunctionKind = "host-bridge" | "pvpanic" | "virtio";

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

/** A BAR moves within its segment's windows; nothing in the kernel is tied to its address. */
function plainMoves(fn: FunctionDescription, ports: FunctionPorts): BarMoves {
  return {
    relocate(_id, _bar, oldBase, newBase, sizeBytes) {
      if (!ports.apertures[fn.segment].move(oldBase, newBase, sizeBytes)) return false;
      bumpGeneration(ports.bus);
      return true;
    },
  };
}

const FACTORIES: Record<FunctionKind, (fn: FunctionDescription, ports: FunctionPorts) => PciFunction> = {
  "host-bridge": (fn, ports) =>
    new ConfigSpace(fn.id, PciFunctionBlock.attach(fn.block), plainMoves(fn, ports)),
  pvpanic: (fn, ports) =>
    new ConfigSpace(fn.id, PciFunctionBlock.attach(fn.block), plainMoves(fn, ports), [
      new PvPanic(ports.panicBudget, ports.monotonicNs, ports.events),
    ]),
  virtio: () => {
    throw new Error("pending");
  },
};

/** Register code of a function for this isolate. */
export function createFunction(fn: FunctionDescription, ports: FunctionPorts): PciFunction {
  return FACTORIES[fn.kind](fn, ports);
}

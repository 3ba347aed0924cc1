/**
 * The platform of one VM: interrupt controller, ports and controllers every guest has, as one cloneable description.
 *
 * L5. Main makes the blocks (`createPlatform`), each vCPU Worker builds its register code from the description
 * (`vcpu_machine.ts`). Source: machine model §2–§4.
 */
import type { AddressRange, PlatformControllers, SegmentWindows } from "@vmm/arch/x86_64/layout.ts";
import { BusBlock } from "@vmm/bus/bus_block.ts";
import { AcpiPmTimerBlock, createAcpiPmTimer } from "@vmm/devices/legacy/acpi_pm_timer.ts";
import { CmosBlock, createCmos } from "@vmm/devices/legacy/cmos.ts";
import { CpuHotplugBlock, createCpuHotplug } from "@vmm/devices/legacy/cpu_hotplug.ts";
import { GedBlock } from "@vmm/devices/legacy/ged.ts";
import { createIoapic, IoapicBlock } from "@vmm/devices/legacy/ioapic.ts";
import { MemoryHotplugBlock } from "@vmm/devices/legacy/memory_hotplug.ts";
import { PowerControlBlock } from "@vmm/devices/legacy/power_control.ts";
import { createSerial, SerialBlock } from "@vmm/devices/legacy/serial.ts";
import type { TimeSource } from "@vmm/devices/legacy/time_source.ts";
import { CrbBlock, createCrb } from "@vmm/devices/tpm/crb.ts";
import { Aperture } from "@vmm/pci/aperture.ts";
import { IrqRoutesBlock } from "./irq_routes.ts";
import { PciBlock } from "@vmm/pci/pci_block.ts";
import { createEventBudget, EventBudgetBlock } from "@vmm/sync/event_budget.ts";

/** Layouts of the platform's blocks, by name. */
export const PLATFORM_BLOCKS = {
  bus: BusBlock,
  pci: PciBlock,
  ioapic: IoapicBlock,
  ged: GedBlock,
  power: PowerControlBlock,
  pmTimer: AcpiPmTimerBlock,
  cmos: CmosBlock,
  debugPort: EventBudgetBlock,
  panic: EventBudgetBlock,
  cpuHotplug: CpuHotplugBlock,
  memoryHotplug: MemoryHotplugBlock,
  serial: SerialBlock,
  tpm: CrbBlock,
} as const;

type Blocks = { [K in keyof typeof PLATFORM_BLOCKS]: ReturnType<(typeof PLATFORM_BLOCKS)[K]["create"]> };

/** Buffers of the blocks, by name: what a Worker attaches to. */
export type PlatformBuffers = Record<keyof typeof PLATFORM_BLOCKS, SharedArrayBuffer>;

/** Plain and cloneable. */
export interface PlatformDescription {
  readonly buffers: PlatformBuffers;
  /** One address allocator per PCI segment. */
  readonly apertures: readonly SharedArrayBuffer[];
  /** See `IrqRoutes`: not guest-visible, and made anew with each machine. */
  readonly irqRoutes: SharedArrayBuffer;
  /** Configuration space of each segment. */
  readonly ecam: readonly AddressRange[];
  readonly controllers: PlatformControllers;
  readonly hasSerial: boolean;
  readonly hasTpm: boolean;
  readonly debugConsolePort?: number;
}

/** Main's side. */
export interface Platform {
  readonly blocks: Blocks;
  readonly apertures: readonly Aperture[];
  readonly description: PlatformDescription;
}

/** What decides the platform. Sizes in bytes. */
export interface PlatformRequest {
  readonly controllers: PlatformControllers;
  readonly segments: readonly SegmentWindows[];
  readonly lowRamBytes: number;
  readonly highRamBytes: number;
  readonly bootVcpus: number;
  readonly maxVcpus: number;
  readonly hasSerial: boolean;
  readonly hasTpm: boolean;
  readonly debugConsolePort?: number;
  readonly time: TimeSource;
}

/** Makes the platform's blocks in reset state. */
export function createPlatform(request: PlatformRequest): Platform {
  const blocks: Blocks = {
    bus: BusBlock.create(),
    pci: PciBlock.create(),
    ioapic: createIoapic(),
    ged: GedBlock.create(),
    power: PowerControlBlock.create(),
    pmTimer: createAcpiPmTimer(request.time),
    cmos: createCmos(request.lowRamBytes, request.highRamBytes),
    debugPort: createEventBudget(),
    panic: createEventBudget(),
    cpuHotplug: createCpuHotplug(request.bootVcpus, request.maxVcpus),
    memoryHotplug: MemoryHotplugBlock.create(),
    serial: createSerial(),
    tpm: createCrb(),
  };
  blocks.pci.segments = request.segments.length;
  const range = ({ gpa, sizeBytes }: { gpa: number; sizeBytes: number }) => ({
    start: gpa,
    end: gpa + sizeBytes,
  });
  const apertures = request.segments.map((segment) =>
    Aperture.create({ memory32: range(segment.window32), memory64: range(segment.window64) })
  );
  return {
    blocks,
    apertures,
    description: {
      buffers: Object.fromEntries(
        Object.entries(blocks).map(([name, block]) => [name, block.buffer]),
      ) as PlatformBuffers,
      apertures: apertures.map((aperture) => aperture.block.buffer),
      irqRoutes: IrqRoutesBlock.create().buffer,
      ecam: request.segments.map((segment) => segment.ecam),
      controllers: request.controllers,
      hasSerial: request.hasSerial,
      hasTpm: request.hasTpm,
      debugConsolePort: request.debugConsolePort,
    },
  };
}

/** A Worker's views of the blocks. */
export function attachPlatform(buffers: PlatformBuffers): Blocks {
  return Object.fromEntries(
    Object.entries(PLATFORM_BLOCKS).map((
      [name, layout],
    ) => [name, layout.attach(buffers[name as keyof PlatformBuffers])]),
  ) as unknown as Blocks;
}

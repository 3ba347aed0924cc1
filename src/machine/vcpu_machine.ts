/**
 * The machine as one vCPU Worker sees it: buses with register code over the shared blocks.
 *
 * L5, vCPU Worker. Built once from plain descriptions; devices that come and go later arrive by `addFunction` and
 * `removeFunction`, called between two exits.
 */
import { monotonicNs, realtimeUs } from "@ffi/libc/clock.ts";
import { signalEvent } from "@ffi/libc/io.ts";
import {
  ACPI_PM_TIMER_PORT,
  ACPI_PM_TIMER_PORT_COUNT,
  ACPI_SHUTDOWN_PORT,
  type AddressRange,
  COM1_IRQ,
  COM1_PORT,
  COM1_PORT_COUNT,
  FW_CFG_PORT,
  FW_CFG_PORT_COUNT,
  IOAPIC_SIZE,
  IOAPIC_START,
  PCI_CONFIG_PORT,
  PCI_CONFIG_PORT_COUNT,
  TPM_SIZE,
  TPM_START,
} from "@vmm/arch/x86_64/layout.ts";
import { bumpGeneration } from "@vmm/bus/bus_block.ts";
import type { IoDevice } from "@vmm/bus/io_device.ts";
import { MmioBus } from "@vmm/bus/mmio_bus.ts";
import { PioBus } from "@vmm/bus/pio_bus.ts";
import type { ByteSink, EventSink, IoWake } from "@vmm/bus/ports.ts";
import { AcpiPmTimer } from "@vmm/devices/legacy/acpi_pm_timer.ts";
import { ACPI_SHUTDOWN_PORT_COUNT, AcpiShutdown } from "@vmm/devices/legacy/acpi_shutdown.ts";
import { Cmos, CMOS_PORT, CMOS_PORT_COUNT } from "@vmm/devices/legacy/cmos.ts";
import { CpuHotplug } from "@vmm/devices/legacy/cpu_hotplug.ts";
import { DEBUG_CONSOLE_READ, DebugConsole, FIRMWARE_DEBUG_PORT } from "@vmm/devices/legacy/debug_console.ts";
import { DEBUG_PORT, DebugPort } from "@vmm/devices/legacy/debug_port.ts";
import { Ged } from "@vmm/devices/legacy/ged.ts";
import { I8042, I8042_PORT, I8042_PORT_COUNT } from "@vmm/devices/legacy/i8042.ts";
import { Ioapic, IoapicLines } from "@vmm/devices/legacy/ioapic.ts";
import { MemoryHotplug } from "@vmm/devices/legacy/memory_hotplug.ts";
import { PowerControl } from "@vmm/devices/legacy/power_control.ts";
import { Serial } from "@vmm/devices/legacy/serial.ts";
import type { ItemSource } from "@vmm/bus/item_source.ts";
import { FwCfgPorts, type FwCfgState } from "@vmm/devices/fw_cfg/fw_cfg.ts";
import { Crb } from "@vmm/devices/tpm/crb.ts";
import type { VmFd } from "@vmm/hypervisor/kvm/vm.ts";
import { Aperture } from "@vmm/pci/aperture.ts";
import { PciHotplugController } from "@vmm/pci/hotplug_controller.ts";
import { ConfigPorts, PciSegment } from "@vmm/pci/segment.ts";
import { IrqRoutes, IrqRoutesBlock } from "./irq_routes.ts";
import { createFunction, type FunctionDescription, type FunctionPorts } from "./pci_functions.ts";
import { attachPlatform, type PlatformDescription } from "./platform.ts";

/** Where bytes printed through ports go. */
export interface VcpuOutputs {
  readonly serial: ByteSink;
  readonly debugConsole: ByteSink;
  readonly firmwareDebug: ByteSink;
}

/** What a vCPU Worker builds its machine from. */
export interface VcpuMachineRequest {
  readonly platform: PlatformDescription;
  readonly functions: readonly FunctionDescription[];
  readonly vm: VmFd;
  readonly ioWakeFd: number;
  readonly outputs: VcpuOutputs;
  /** The firmware configuration device, when there is one. */
  readonly fwCfg?: { readonly state: FwCfgState; readonly items: ItemSource };
  readonly events: EventSink;
  /** Makes this vCPU wait for main instead of running on. */
  readonly halt: () => void;
}

/** Buses of one vCPU. */
export class VcpuMachine {
  readonly pio: PioBus;
  readonly mmio: MmioBus;
  readonly power: PowerControl;
  readonly #lines: IoapicLines;
  readonly #segments: PciSegment[];
  readonly #functionPorts: FunctionPorts;
  readonly #blocks: ReturnType<typeof attachPlatform>;

  constructor(request: VcpuMachineRequest) {
    const { platform, vm, events, outputs } = request;
    const blocks = this.#blocks = attachPlatform(platform.buffers);
    const time = { monotonicNs, realtimeUs };
    const wake: IoWake = { wake: () => signalEvent(request.ioWakeFd) };
    this.#lines = new IoapicLines(blocks.ioapic, vm);
    this.power = new PowerControl(blocks.power, events, request.halt);
    this.#segments = platform.ecam.map((_, index) => new PciSegment(index, blocks.pci));
    this.#functionPorts = {
      vm,
      bus: blocks.bus,
      apertures: platform.apertures.map((buffer) => Aperture.attach(buffer)),
      messages: vm,
      events,
      wake,
      panicBudget: blocks.panic,
      monotonicNs,
    };
    for (const fn of request.functions) this.#register(fn);

    this.pio = new PioBus(blocks.bus);
    this.pio.add(I8042_PORT, I8042_PORT_COUNT, new I8042(this.power));
    this.pio.add(CMOS_PORT, CMOS_PORT_COUNT, new Cmos(blocks.cmos, time, this.power));
    this.pio.add(DEBUG_PORT, 1, new DebugPort(blocks.debugPort, time, events));
    this.pio.add(FIRMWARE_DEBUG_PORT, 1, new DebugConsole(outputs.firmwareDebug));
    this.pio.add(ACPI_SHUTDOWN_PORT, ACPI_SHUTDOWN_PORT_COUNT, new AcpiShutdown(this.power));
    this.pio.add(ACPI_PM_TIMER_PORT, ACPI_PM_TIMER_PORT_COUNT, new AcpiPmTimer(blocks.pmTimer, time));
    this.pio.add(PCI_CONFIG_PORT, PCI_CONFIG_PORT_COUNT, new ConfigPorts(this.#segments[0], blocks.pci));
    if (platform.hasSerial) {
      const ports = { lines: this.#lines, gsi: COM1_IRQ, output: outputs.serial, io: wake };
      this.pio.add(COM1_PORT, COM1_PORT_COUNT, new Serial(blocks.serial, ports));
    }
    if (request.fwCfg !== undefined) {
      const { state, items } = request.fwCfg;
      this.pio.add(FW_CFG_PORT, FW_CFG_PORT_COUNT, new FwCfgPorts(state, items, wake));
    }
    if (platform.debugConsolePort !== undefined) {
      this.pio.add(platform.debugConsolePort, 1, new DebugConsole(outputs.debugConsole, DEBUG_CONSOLE_READ));
    }
    this.mmio = this.#mmioBus(platform, vm, events, wake);
  }

  #mmioBus(platform: PlatformDescription, vm: VmFd, events: EventSink, wake: IoWake): MmioBus {
    const blocks = this.#blocks;
    const { controllers } = platform;
    const routes = new IrqRoutes(IrqRoutesBlock.attach(platform.irqRoutes), blocks.ioapic, vm);
    const ioapic = new Ioapic(blocks.ioapic, this.#lines, () => routes.update());
    const ged = new Ged(blocks.ged);
    const cpus = new CpuHotplug(blocks.cpuHotplug, events);
    const pci = new PciHotplugController(blocks.pci, blocks.bus, events);
    const memory = new MemoryHotplug(blocks.memoryHotplug);
    const tpm = platform.hasTpm ? new Crb(blocks.tpm, TPM_START, wake) : undefined;
    return new MmioBus(blocks.bus, (bus) => {
      const add = ({ gpa, sizeBytes }: AddressRange, device: IoDevice) => bus.add(gpa, sizeBytes, device);
      bus.add(IOAPIC_START, IOAPIC_SIZE, ioapic);
      if (tpm !== undefined) bus.add(TPM_START, TPM_SIZE, tpm);
      add(controllers.genericEvent, ged);
      add(controllers.cpuHotplug, cpus);
      add(controllers.pciHotplug, pci);
      if (controllers.memoryHotplug) add(controllers.memoryHotplug, memory);
      this.#segments.forEach((segment, i) => {
        add(platform.ecam[i], segment);
        segment.addBars(bus);
      });
    });
  }

  /** A local APIC finished `vector` (KVM_EXIT_IOAPIC_EOI). */
  endOfInterrupt(vector: number): void {
    this.#lines.endOfInterrupt(vector);
  }

  #register(fn: FunctionDescription): void {
    this.#segments[fn.segment].register(fn.slot, createFunction(fn, this.#functionPorts));
  }

  /** A function was plugged; it answers once main sets its slot's present bit. */
  addFunction(fn: FunctionDescription): void {
    this.#register(fn);
    bumpGeneration(this.#blocks.bus);
  }

  /** A function is gone. */
  removeFunction(segment: number, slot: number): void {
    this.#segments[segment].remove(slot);
    bumpGeneration(this.#blocks.bus);
  }
}

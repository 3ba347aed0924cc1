/**
 * A live VM: memory, vCPUs, devices and the Workers that run them.
 *
 * L5, main isolate. Made by `VmBuilder` (`vm_factory.ts`) from a validated configuration; the control loop is its only
 * caller. Pause order: vCPUs stop, handlers drain, indices are in the blocks; resume in reverse.
 */
import { close } from "@ffi/libc/fd.ts";
import type { DiskConfig } from "@schemas/api/disk.ts";
import type { NetConfig } from "@schemas/api/net.ts";
import type {
  FsConfig,
  GenericVhostUserConfig,
  PmemConfig,
  VsockConfig,
} from "@schemas/api/virtio_devices.ts";
import type { VmConfig } from "@schemas/api/vm_config.ts";
import { GED_IRQ } from "@vmm/arch/x86_64/layout.ts";
import type { ConnectedTpm } from "@vmm/backends/tpm/connect.ts";
import type { GuestEvent } from "@vmm/bus/ports.ts";
import { GedNotification } from "@vmm/arch/x86_64/acpi/platform_values.ts";
import { notifyGed } from "@vmm/devices/legacy/ged.ts";
import { REPORT_FAULT } from "@vmm/devices/virtio/iommu/handler.ts";
import { IoapicLines } from "@vmm/devices/legacy/ioapic.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import { StateError } from "@vmm/errors/state_error.ts";
import { UnsupportedError } from "@vmm/errors/unsupported_error.ts";
import type { KvmVm } from "@vmm/hypervisor/kvm/vm.ts";
import { setSlot } from "@vmm/pci/pci_block.ts";
import { bumpGeneration } from "@vmm/bus/bus_block.ts";
import { VirtioPciHead } from "@vmm/virtio/pci/block.ts";
import { balloonActual, resizeBalloon } from "./balloon_control.ts";
import type { Consoles } from "./consoles.ts";
import { DeviceTreeMemo, type PortDevice } from "./device_tree.ts";
import { lockAtBoot, lockAtPlug, resizeDisk } from "./disk_control.ts";
import { IoThreads } from "./io_threads.ts";
import { loadBootImage } from "./payload_files.ts";
import { configuredMemory, releaseMemory, type VmMemory } from "./memory_setup.ts";
import type { PlacedDevice } from "./pci_topology.ts";
import type { Platform } from "./platform.ts";
import { IOMMU_ID } from "./plug/iommu.ts";
import { plugFwCfg, type PluggedFwCfg } from "./plug/fw_cfg.ts";
import type { PluggedDevice } from "./plug/plugged_device.ts";
import { VhostUserLinks } from "./plug/vhost_user.ts";
import { deviceToRemove, unknownDevice } from "./removal.ts";
import type { VcpuSet } from "./vcpu_set.ts";
import type { VmDevices } from "./vm_devices.ts";
import type { HotplugKind, PciDeviceAddress, VmInstance, VmState } from "./vm_port.ts";
import { acpiMachine, smbiosConfig } from "./firmware_tables.ts";
import { trimSoon } from "./trim.ts";
import type { WorkerPort } from "./worker_port.ts";

/** Parts of a VM, made by the factory. */
export interface VmParts {
  readonly vm: KvmVm;
  readonly memory: VmMemory;
  readonly platform: Platform;
  readonly devices: VmDevices;
  readonly vcpus: VcpuSet;
  readonly consoles: Consoles;
  readonly ioWorker: Promise<WorkerPort>;
  readonly ioWakeFd: number;
  readonly tpm?: ConnectedTpm;
  readonly onEvent: (event: GuestEvent) => void;
}

/** A VM instance. */
export class Vm implements VmInstance {
  #state: VmState = "Created";
  readonly #tree = new DeviceTreeMemo();
  readonly #io: IoThreads;
  /** Devices the guest was asked to give back: their images keep their size. */
  readonly #leaving = new WeakSet<PlacedDevice>();
  #fwCfg: PluggedFwCfg | undefined;
  readonly #lines: IoapicLines;
  #reportsFault = false;

  constructor(private readonly parts: VmParts) {
    this.#lines = new IoapicLines(parts.platform.blocks.ioapic, parts.vm);
    this.#io = new IoThreads({
      first: parts.ioWorker,
      firstWakeFd: parts.ioWakeFd,
      onEvent: parts.onEvent,
    });
  }

  get state(): VmState {
    return this.#state;
  }

  get config(): VmConfig {
    return this.parts.devices.config;
  }

  async boot(): Promise<void> {
    this.#transition("Running");
    const { devices, memory, platform, vcpus, vm, ioWakeFd, consoles } = this.parts;
    lockAtBoot(devices);
    const payload = this.config.payload ?? {};
    const kernel = payload.firmware ?? payload.kernel;
    if (kernel === undefined) throw new ContextError(["No payload to boot"], undefined);
    const machine = acpiMachine(
      this.config,
      memory.plan,
      platform.description,
      devices.iommu?.description,
    );
    const isFirmware = payload.firmware !== undefined;
    const image = loadBootImage(
      {
        kernel,
        isFirmware,
        initramfs: isFirmware ? undefined : payload.initramfs,
        cmdline: isFirmware ? undefined : payload.cmdline,
      },
      machine,
      smbiosConfig(this.config.platform),
      memory.guest,
    );
    const fwCfg = this.#fwCfg = plugFwCfg(payload, machine);
    vcpus.create(image.entry);
    for (const { descriptor } of devices.placed.values()) this.#io.place(descriptor);
    // A guest may reach its drivers before the I/O Worker does: activations wait in the devices' blocks.
    const started = vcpus.start({
      vmFd: vm.fd,
      ioWakeFd,
      platform: platform.description,
      functions: devices.pci.functions.map((fn) => this.#io.withWake(fn)),
      outputs: {
        serial: consoles.serial,
        debugConsole: consoles.debugConsole,
        firmwareDebug: consoles.firmwareDebug,
      },
      fwCfg: fwCfg?.description,
    });
    const results = await Promise.allSettled([this.#startIo(), started]);
    for (const result of results) {
      if (result.status === "fulfilled") continue;
      // A guest that lacks a part of its machine must not run with the rest.
      await vcpus.stop();
      throw result.reason;
    }
    this.#state = "Running";
    trimSoon();
  }

  async #startIo(): Promise<void> {
    const { memory, platform, vm, consoles } = this.parts;
    await this.#io.start({
      vmFd: vm.fd,
      regions: memory.regions.map(({ gpa, sizeBytes, hostAddress, file }) => ({
        gpa,
        sizeBytes,
        hostAddress,
        file,
      })),
      platform: platform.description.buffers,
      irqRoutes: platform.description.irqRoutes,
      serial: consoles.serial,
      outputs: consoles.outputs(),
      fwCfg: this.#fwCfg?.description,
      tpm: this.parts.tpm?.description,
    });
  }

  async pause(): Promise<void> {
    this.#transition("Paused");
    await this.parts.vcpus.pause();
    try {
      await this.#io.call("pause");
    } catch (error) {
      await this.parts.vcpus.resume();
      throw error;
    }
    this.#state = "Paused";
  }

  async resume(): Promise<void> {
    // A boot that failed half-way leaves an instance that can be "resumed": it has no vCPUs, as in the original.
    if (this.#state !== "Created") this.#transition("Running", "Paused");
    await this.#io.call("resume");
    await this.parts.vcpus.resume();
    this.#state = "Running";
  }

  /** @throws StateError for a transition the original refuses too */
  #transition(to: VmState, from?: VmState): void {
    const allowed = from === undefined ? ALLOWED[this.#state].includes(to) : this.#state === from;
    if (!allowed) throw StateError.invalidTransition(TRANSITION_WORDS[to] ?? [], this.#state, to);
  }

  async shutdown(): Promise<void> {
    const { vcpus, devices, memory, vm, ioWakeFd } = this.parts;
    this.#state = "Shutdown";
    await vcpus.stop();
    const isQuiet = await this.#io.shutdown();
    vcpus.close();
    // What a stuck thread still works on must not become somebody else's memory or file.
    if (!isQuiet) return;
    devices.releaseAll();
    this.#fwCfg?.release();
    this.parts.tpm?.release();
    releaseMemory(memory);
    vm.close();
    close(ioWakeFd);
  }

  powerButton(): void {
    this.#notifyGuest(GedNotification.powerButton);
  }

  #notifyGuest(bits: number): void {
    notifyGed(this.parts.platform.blocks.ged, this.#lines, GED_IRQ, bits);
  }

  async nmi(): Promise<void> {
    await this.parts.vcpus.nmi();
  }

  counters(): Record<string, Record<string, bigint>> {
    return this.parts.devices.counters();
  }

  deviceTree(): Record<string, unknown> {
    const { devices, consoles, platform } = this.parts;
    const ports: PortDevice[] = consoles.serial === undefined ? [] : ["__serial"];
    if (platform.description.debugConsolePort !== undefined) ports.push("__debug_console");
    return this.#tree.of(devices, ports);
  }

  memoryActualSize(): bigint {
    const { total, hotplugged } = configuredMemory(this.config.memory);
    const boot = total - hotplugged - balloonActual(this.parts.devices);
    return boot > 0n ? boot : 0n;
  }

  /** Has the virtual IOMMU tell its driver of a device that used memory it may not; one report at a time. */
  async reportIommuFault(fault: Extract<GuestEvent, { kind: "iommu-fault" }>): Promise<void> {
    if (this.#reportsFault) return;
    this.#reportsFault = true;
    await this.#io.call("command", { id: IOMMU_ID, command: { ...fault, kind: REPORT_FAULT } }).catch(
      () => {},
    );
    this.#reportsFault = false;
  }

  async addDevice(kind: HotplugKind, config: unknown): Promise<PciDeviceAddress> {
    this.#refuseTakenId((config as { id?: string }).id);
    this.parts.devices.checkIommu(config as { iommu?: boolean; pci_segment: number });
    const named = this.parts.devices.named(kind, config as object);
    const placed = this.parts.devices.plugLive(await this.#plug(kind, named));
    try {
      await this.#io.call("addDevice", placed.descriptor);
    } catch (cause) {
      await this.#io.call("removeDevice", placed.device.id).catch(() => {});
      this.parts.devices.remove(placed);
      throw new ContextError(["Error from device manager"], cause);
    }
    await this.parts.vcpus.call("addFunction", this.#io.withWake(placed.fn));
    this.#show(placed);
    return { id: placed.device.id, bdf: placed.bdf, config: placed.device.config };
  }

  /** A device the guest has yet to give back keeps its id. @throws ContextError with the original's words */
  #refuseTakenId(id: string | undefined): void {
    if (id === undefined || !Object.hasOwn(this.deviceTree(), id)) return;
    const reason = new Error(`Invalid identifier as it is not unique: ${id}`);
    throw new ContextError(["Error from device manager"], reason);
  }

  async #plug(kind: HotplugKind, config: unknown): Promise<PluggedDevice> {
    const { devices } = this.parts;
    const links = new VhostUserLinks();
    switch (kind) {
      case "disk": {
        const disk = config as DiskConfig;
        if (disk.vhost_user) await links.disk(disk);
        const device = devices.plugDisk(disk, links);
        lockAtPlug(device);
        return device;
      }
      case "net": {
        const net = config as NetConfig;
        if (net.vhost_user) await links.net(net);
        return devices.plugNet(net, links);
      }
      case "fs":
        await links.fs(config as FsConfig);
        return devices.plugFs(config as FsConfig, links);
      case "generic-vhost-user":
        await links.generic(config as GenericVhostUserConfig);
        return devices.plugGenericVhostUser(config as GenericVhostUserConfig, links);
      case "pmem":
        return devices.plugPmem(config as PmemConfig);
      case "vsock":
        return devices.plugVsock(config as VsockConfig);
      default:
        throw new UnsupportedError(`Hot-plugging a ${kind} device`, NOT_YET);
    }
  }

  /** Makes a placed function answer, and tells the guest to look. */
  #show(placed: PlacedDevice): void {
    const { pci, bus } = this.parts.platform.blocks;
    const { segment, slot } = placed.fn;
    setSlot(pci, "present", segment, slot);
    bumpGeneration(bus);
    setSlot(pci, "added", segment, slot);
    this.#notifyGuest(GedNotification.pci);
  }

  async removeDevice(id: string): Promise<void> {
    const placed = deviceToRemove(this.parts.devices, this.deviceTree(), id);
    this.#leaving.add(placed);
    setSlot(this.parts.platform.blocks.pci, "removing", placed.fn.segment, placed.fn.slot);
    this.#notifyGuest(GedNotification.pci);
  }

  /** The guest ejected slots: their devices go. Called for the event of that name. Never throws. */
  async ejected(segment: number, slots: number): Promise<void> {
    const { devices, onEvent } = this.parts;
    for (const placed of [...devices.placed.values()]) {
      const { fn, device, bdf } = placed;
      if (fn.segment !== segment || (slots >>> fn.slot & 1) === 0) continue;
      try {
        await this.#withdraw(placed);
      } catch (error) {
        const text = `Cannot take out ${device.id}: ${(error as Error).message}`;
        if (this.#state !== "Shutdown") onEvent({ kind: "log", level: "error", key: text, text });
        continue;
      }
      // A VM that is being dropped releases all it has; its Workers may have forgotten it already.
      if (this.#state === "Shutdown") return;
      devices.remove(placed);
      onEvent({ kind: "device-removed", id: device.id, bdf });
    }
  }

  /** Has all Workers let go of a device. @throws WorkerError */
  async #withdraw({ fn: { segment, slot }, device }: PlacedDevice): Promise<void> {
    await this.parts.vcpus.call("removeFunction", { segment, slot });
    await this.#io.call("removeDevice", device.id);
  }

  async resize(request: { vcpus?: number; ramBytes?: bigint; balloonBytes?: bigint }): Promise<void> {
    const { vcpus, ramBytes, balloonBytes } = request;
    if (vcpus !== undefined) throw new UnsupportedError("Changing the vCPUs of a running VM", NOT_YET);
    if (ramBytes !== undefined) throw new UnsupportedError("Changing the memory of a running VM", NOT_YET);
    if (balloonBytes !== undefined) await resizeBalloon(this.parts.devices, this.#io, balloonBytes);
  }

  async resizeZone(): Promise<void> {
    throw new UnsupportedError("Resizing a memory zone of a running VM", NOT_YET);
  }

  async resizeDisk(id: string, sizeBytes: bigint): Promise<void> {
    const placed = this.parts.devices.placed.get(id);
    if (placed === undefined || placed.device.kind !== "block" || this.#leaving.has(placed)) {
      throw unknownDevice(id);
    }
    await resizeDisk(placed, this.#io, sizeBytes);
  }

  async snapshot(): Promise<void> {
    throw new UnsupportedError("A snapshot", NOT_YET);
  }

  async coredump(): Promise<void> {
    throw new UnsupportedError("A core dump", NOT_YET);
  }

  /** Exits by reason, accesses that hit nothing, and how often drivers broke their devices, in all and by device. */
  metrics(): Record<string, number> {
    const all: Record<string, number> = {};
    for (const [reason, count] of this.parts.vcpus.exits()) all[`exits_reason_${reason}`] = count;
    const { unassignedPio, unassignedMmio } = this.parts.platform.blocks.bus;
    let faults = 0;
    for (const [id, { fn }] of this.parts.devices.placed) {
      const count = VirtioPciHead.attach(fn.block).faults;
      if (count > 0) all[`driver_faults:${id}`] = count;
      faults += count;
    }
    return { ...all, driver_faults: faults, unassigned_pio: unassignedPio, unassigned_mmio: unassignedMmio };
  }

  /** The terminal's size changed. */
  async windowChanged(): Promise<void> {
    for (const { device } of this.parts.devices.placed.values()) {
      if (device.kind === "console") await this.#io.call("windowChanged", device.id);
    }
  }
}

const NOT_YET = "this version cannot do it yet";

/** Words the original puts above a refused transition. */
const TRANSITION_WORDS: Partial<Record<VmState, readonly string[]>> = {
  Paused: ["Cannot pause VM", "Failed to pause migratable component"],
  Running: ["Cannot resume VM", "Failed to resume migratable component"],
};

/** States that can be entered from each state. */
const ALLOWED: Record<VmState, readonly VmState[]> = {
  Created: ["Running", "Paused", "BreakPoint", "Shutdown"],
  Running: ["Paused", "BreakPoint", "Shutdown"],
  Shutdown: ["Running"],
  Paused: ["Running", "Shutdown"],
  BreakPoint: ["Created", "Running"],
};

/**
 * The devices of a VM: from the configuration, in the original's slot order, to the buses and the I/O Worker.
 *
 * L5, main isolate. Source: machine model §5 "Slot order at boot".
 */
import type { DiskConfig } from "@schemas/api/disk.ts";
import type { IvshmemConfig } from "@schemas/api/assigned_device.ts";
import type { NetConfig } from "@schemas/api/net.ts";
import type {
  FsConfig,
  GenericVhostUserConfig,
  PmemConfig,
  VsockConfig,
} from "@schemas/api/virtio_devices.ts";
import type { VmConfig } from "@schemas/api/vm_config.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import { PciSlotError } from "@vmm/pci/slots.ts";
import type { Consoles } from "./consoles.ts";
import type { MemoryWindows } from "./memory_windows.ts";
import type { PciTopology, PlacedDevice } from "./pci_topology.ts";
import { plugBalloon } from "./plug/balloon.ts";
import { plugConsole } from "./plug/console.ts";
import { plugDisk } from "./plug/disk.ts";
import type { VmIommu } from "./plug/iommu.ts";
import { plugIvshmem } from "./plug/ivshmem.ts";
import { limiterOf } from "./plug/limiter.ts";
import { plugNet } from "./plug/net.ts";
import type { PciCommon, PluggedDevice } from "./plug/plugged_device.ts";
import { plugPmem } from "./plug/pmem.ts";
import { plugRng } from "./plug/rng.ts";
import { plugRtc } from "./plug/rtc.ts";
import {
  plugFs,
  plugGenericVhostUser,
  plugVhostUserDisk,
  plugVhostUserNet,
  type VhostUserLinks,
} from "./plug/vhost_user.ts";
import { plugVsock } from "./plug/vsock.ts";
import { plugWatchdog } from "./plug/watchdog.ts";
import type { HotplugKind } from "./vm_port.ts";

/** Prefixes of generated ids; all kinds share one counter. */
export const ID_PREFIX = {
  disk: "_disk",
  net: "_net",
  pmem: "_pmem",
  fs: "_fs",
  genericVhostUser: "_generic_vhost_user",
  vsock: "_vsock",
} as const;

const HOTPLUG_PREFIX: Partial<Record<HotplugKind, string>> = {
  ...ID_PREFIX,
  "generic-vhost-user": ID_PREFIX.genericVhostUser,
};

const PVPANIC_ID = "__pvpanic";

/** Ids given to devices that could have had one made. */
function configuredIds(config: VmConfig): Set<string> {
  const { disks = [], net = [], pmem = [], fs = [], generic_vhost_user: generic = [], vsock } = config;
  const devices: { id?: string }[] = [...disks, ...net, ...pmem, ...fs, ...generic];
  if (vsock !== undefined) devices.push(vsock);
  return new Set(devices.flatMap(({ id }) => id ?? []));
}

/** Devices of one VM instance. */
export class VmDevices {
  readonly placed = new Map<string, PlacedDevice>();
  readonly #groups = new Map<string, SharedArrayBuffer>();
  /** Ids the VM was made with: no device gets one of them by chance, whatever the order. */
  readonly #configuredIds: ReadonlySet<string>;
  #nextId = 0;
  /** The configuration with what opening the devices filled in. */
  config: VmConfig;

  /** Opened and not yet on a bus. */
  readonly #unplaced: PluggedDevice[] = [];
  #releaseIvshmem: (() => void) | undefined;

  constructor(
    config: VmConfig,
    readonly pci: PciTopology,
    readonly windows: MemoryWindows,
    private readonly warn: (text: string) => void,
    /** Back-ends that wait for their devices. */
    private readonly links: VhostUserLinks,
    /** The virtual IOMMU, when there is one. */
    readonly iommu?: VmIommu,
  ) {
    this.config = config;
    this.#configuredIds = configuredIds(config);
    for (const group of config.rate_limit_groups ?? []) {
      const state = limiterOf(group.rate_limiter_config);
      if (state !== undefined) this.#groups.set(group.id, state);
    }
  }

  /** A fresh id, or the configured one. */
  idFor(prefix: string, configured: string | undefined): string {
    if (configured !== undefined) return configured;
    for (;;) {
      const id = `${prefix}${this.#nextId++}`;
      if (!this.#configuredIds.has(id) && !this.placed.has(id)) return id;
    }
  }

  /** The configuration of a device to be added, with an id: it is taken even if the device then cannot be made. */
  named<T extends object>(kind: HotplugKind, config: T): T & { id?: string } {
    const { id } = config as { id?: string };
    const prefix = HOTPLUG_PREFIX[kind];
    return prefix === undefined ? config : { ...config, id: this.idFor(prefix, id) };
  }

  /**
   * Opens every configured device, then places them: windows of device memory come before registers in the address space.
   * What was opened stays to be released. @throws VmmError
   */
  createAll(consoles: Consoles): void {
    const { config } = this;
    const taken = this.#reserveSlots(config);
    this.#openAll(consoles);
    for (let device = this.#unplaced[0]; device !== undefined; device = this.#unplaced[0]) {
      this.#place(device, taken);
      this.#unplaced.shift();
    }
    if (this.iommu !== undefined) {
      const device = this.iommu.plug();
      this.#place(device, taken);
      this.iommu.placed(this.placed.get(device.id)!.fn.slot);
    }
    if (config.pvpanic) this.pci.addPvPanic(PVPANIC_ID);
    if (config.ivshmem !== undefined) this.#plugIvshmem(config.ivshmem, taken);
  }

  #plugIvshmem(config: IvshmemConfig, taken: ReadonlyMap<string, number>): void {
    const { pci_segment: segment, pci_device_id: wanted } = config;
    const reserved = wanted === undefined ? undefined : taken.get(`${segment}:${wanted}`);
    const slot = reserved ?? this.pci.takeSlot(segment, undefined);
    this.#releaseIvshmem = plugIvshmem(config, this.pci, this.windows, slot);
  }

  /** Opens the devices in the order of their slots, and completes the configuration. */
  #openAll(consoles: Consoles): void {
    const { config } = this;
    const open = <T>(device: PluggedDevice, _config?: T): T => {
      this.#unplaced.push(device);
      return device.config as T;
    };
    if (consoles.console !== undefined) open(plugConsole(config.console, consoles.console));
    const disks = config.disks?.map((disk) => open(this.plugDisk(disk), disk));
    const net = config.net?.map((one) => open(this.plugNet(one), one));
    open(plugRng(config.rng));
    const generic = config.generic_vhost_user?.map((one) =>
      open(this.plugGenericVhostUser(one, this.links), one)
    );
    const fs = config.fs?.map((one) => open(this.plugFs(one, this.links), one));
    const pmem = config.pmem?.map((one) => open(this.plugPmem(one), one));
    const vsock = config.vsock && open(this.plugVsock(config.vsock), config.vsock);
    if (config.balloon !== undefined) open(plugBalloon(config.balloon));
    if (config.watchdog) open(plugWatchdog());
    if (config.rtc !== undefined) open(plugRtc(config.rtc));
    this.config = { ...config, disks, net, generic_vhost_user: generic, fs, pmem, vsock };
  }

  /** Slots that configurations name are kept from devices that take the lowest free one. */
  #reserveSlots(config: VmConfig): Map<string, number> {
    const key = (common: PciCommon) => `${common.pci_segment}:${common.pci_device_id}`;
    const taken = new Map<string, number>();
    const all: (PciCommon | undefined)[] = [
      config.console.mode === "Off" ? undefined : config.console,
      ...(config.disks ?? []),
      ...(config.net ?? []),
      config.rng,
      ...(config.generic_vhost_user ?? []),
      ...(config.fs ?? []),
      ...(config.pmem ?? []),
      config.vsock,
      config.balloon,
      config.rtc,
      config.ivshmem,
    ];
    for (const common of all) {
      if (common?.pci_device_id === undefined) continue;
      try {
        taken.set(key(common), this.pci.takeSlot(common.pci_segment, common.pci_device_id));
      } catch (cause) {
        throw new ContextError(["Error from device manager"], cause);
      }
    }
    return taken;
  }

  /** Opens a disk's image. @throws ContextError with the original's words */
  plugDisk(config: DiskConfig, links = this.links): PluggedDevice {
    try {
      const id = this.idFor(ID_PREFIX.disk, config.id);
      return config.vhost_user
        ? plugVhostUserDisk(config, id, links.take(config))
        : plugDisk(config, id, this.#groups);
    } catch (cause) {
      throw new ContextError(["Error from device manager"], cause);
    }
  }

  /** Opens a tap, or takes the back-end that waits for the device. @throws ContextError with the original's words */
  plugNet(config: NetConfig, links = this.links): PluggedDevice {
    const id = this.idFor(ID_PREFIX.net, config.id);
    return config.vhost_user ? plugVhostUserNet(config, id, links.take(config)) : plugNet(config, id);
  }

  /** Takes the back-end of a file system. */
  plugFs(config: FsConfig, links: VhostUserLinks): PluggedDevice {
    return plugFs(config, this.idFor(ID_PREFIX.fs, config.id), links.take(config));
  }

  /** Takes the back-end of a device of any type. */
  plugGenericVhostUser(config: GenericVhostUserConfig, links: VhostUserLinks): PluggedDevice {
    return plugGenericVhostUser(
      config,
      this.idFor(ID_PREFIX.genericVhostUser, config.id),
      links.take(config),
    );
  }

  /** Opens and maps a file. @throws ContextError with the original's words */
  plugPmem(config: PmemConfig): PluggedDevice {
    return plugPmem(config, this.idFor(ID_PREFIX.pmem, config.id), this.windows);
  }

  /** Opens the device's socket. @throws ContextError with the original's words */
  plugVsock(config: VsockConfig): PluggedDevice {
    return plugVsock(config, this.idFor(ID_PREFIX.vsock, config.id));
  }

  #place(device: PluggedDevice, taken: ReadonlyMap<string, number>): void {
    const { segment, slot } = device.placement;
    const reserved = slot === undefined ? undefined : taken.get(`${segment}:${slot}`);
    const actual = reserved ?? this.pci.takeSlot(segment, undefined);
    this.placed.set(device.id, this.pci.place(device, actual, true));
    device.warnings.forEach(this.warn);
  }

  /** Locks disk images against other VMs. @throws VmmError */
  lockAll(): void {
    for (const { device } of this.placed.values()) device.lock?.();
  }

  /**
   * A device that is to come behind the IOMMU must come to a segment that is behind it as a whole: the guest was told where
   * such devices are. @throws ContextError with the original's words
   */
  checkIommu(config: { iommu?: boolean; pci_segment: number }): void {
    if (config.iommu !== true || this.iommu?.covers(config.pci_segment) === true) return;
    throw new ContextError(["Error from device manager"], new Error("Cannot hotplug device behind vIOMMU"));
  }

  /** Puts a device on the bus of a running VM, not yet visible. @throws VmmError; the device is released then */
  plugLive(device: PluggedDevice): PlacedDevice {
    const { segment, slot } = device.placement;
    try {
      const placed = this.pci.place(device, this.#liveSlot(segment, slot), false);
      this.placed.set(device.id, placed);
      device.warnings.forEach(this.warn);
      return placed;
    } catch (cause) {
      device.release();
      throw new ContextError(["Error from device manager"], cause);
    }
  }

  /** A slot of a running VM. @throws PciSlotError, in other words than at boot */
  #liveSlot(segment: number, slot: number | undefined): number {
    try {
      return this.pci.takeSlot(segment, slot);
    } catch (error) {
      throw new PciSlotError("Failed to find an available PCI device ID", { cause: (error as Error).cause });
    }
  }

  /** Forgets an ejected device and closes its back-end. */
  remove(placed: PlacedDevice): void {
    this.placed.delete(placed.device.id);
    this.pci.remove(placed);
    placed.device.release();
  }

  /** `vm.counters`. */
  counters(): Record<string, Record<string, bigint>> {
    const all: Record<string, Record<string, bigint>> = {};
    for (const { device } of this.placed.values()) {
      if (device.counters !== undefined) all[device.id] = device.counters();
    }
    return all;
  }

  /** Closes every back-end; Workers have let go of them. */
  releaseAll(): void {
    for (const placed of [...this.placed.values()]) this.remove(placed);
    for (const device of this.#unplaced.splice(0)) device.release();
    this.#releaseIvshmem?.();
    this.#releaseIvshmem = undefined;
  }
}

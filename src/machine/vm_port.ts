/**
 * The VM as the control loop sees it.
 *
 * L5, main isolate. The control loop is the only caller and never runs two mutating operations at once.
 */
import type { VmConfig } from "@schemas/api/vm_config.ts";
import type { GuestEvent } from "@vmm/bus/ports.ts";

/** Instance states, spelled as in `vm.info`. */
export type VmState = "Created" | "Running" | "Shutdown" | "Paused" | "BreakPoint";

/** Answer of a live `add-*`. */
export interface PciDeviceAddress {
  readonly id: string;
  readonly bdf: string;
  /** The device's configuration with what the instance filled in (id, MAC address, image type); as given when absent. */
  readonly config?: unknown;
}

/** Kinds of hot-pluggable devices, named after their endpoints. */
export type HotplugKind =
  | "device"
  | "user-device"
  | "disk"
  | "fs"
  | "pmem"
  | "net"
  | "vdpa"
  | "vsock"
  | "generic-vhost-user";

/** A live VM: vCPU threads, memory, devices. */
export interface VmInstance {
  readonly state: VmState;
  /**
   * The configuration with what making the devices filled in: ids, MAC addresses, image types, as `vm.info` shows them
   * and a reboot uses them. As given to `create` when absent.
   */
  readonly config?: VmConfig;
  /** Loads the payload and starts the vCPUs. Created → Running. */
  boot(): Promise<void>;
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Stops vCPUs and devices and releases everything. The object is not used afterwards. Never throws. */
  shutdown(): Promise<void>;
  powerButton(): void;
  nmi(): Promise<void>;
  /** Device id → counter → value. */
  counters(): Record<string, Record<string, bigint>>;
  /** Device tree of `vm.info`, plain JSON values (bigint for 64-bit). */
  deviceTree(): Record<string, unknown>;
  /** `memory_actual_size` in bytes. */
  memoryActualSize(): bigint;
  /**
   * Hot-plugs; the config was validated, and names descriptors that came with the request.
   *
   * @throws UnsupportedError for kinds this build cannot plug, VmmError for what the device failed with
   */
  addDevice(kind: HotplugKind, config: unknown): Promise<PciDeviceAddress>;
  removeDevice(id: string): Promise<void>;
  resize(request: { vcpus?: number; ramBytes?: bigint; balloonBytes?: bigint }): Promise<void>;
  resizeZone(id: string, ramBytes: bigint): Promise<void>;
  resizeDisk(id: string, sizeBytes: bigint): Promise<void>;
  snapshot(destinationUrl: string): Promise<void>;
  coredump(destinationUrl: string): Promise<void>;
  /** Counters and gauges for `/metrics` beyond `counters()`: exits by reason, injected interrupts… */
  metrics(): Record<string, number>;
}

/** Makes instances. */
export interface VmFactory {
  /**
   * Opens console back-ends of a new config (files truncated, ptys allocated, sockets bound), writing pty paths into the
   * returned config as `vm.create` does.
   */
  prepareConsoles(config: VmConfig): Promise<VmConfig>;
  /** Forgets the console back-ends (vm.delete). */
  releaseConsoles(): Promise<void>;
  /**
   * Looks at the memory part of a configuration before the rest is validated, as the original builds memory first.
   *
   * @throws ContextError
   */
  checkMemory?(config: VmConfig): void;
  /** Builds memory, devices and vCPUs. `onEvent` is called on main for everything the guest makes happen. */
  create(config: VmConfig, onEvent: (event: GuestEvent) => void): Promise<VmInstance>;
}

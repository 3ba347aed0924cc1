/**
 * A VM without KVM: keeps the state machine of a real one, records calls, fails when told to.
 *
 * For tests of the API.
 */
import type { VmConfig } from "@schemas/api/vm_config.ts";
import type { GuestEvent } from "@vmm/bus/ports.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import { StateError } from "@vmm/errors/state_error.ts";
import type { HotplugKind, PciDeviceAddress, VmFactory, VmInstance, VmState } from "@vmm/machine/vm_port.ts";

/** Calls that can be made to fail or to wait. */
export type FakeCall =
  | "prepareConsoles"
  | "create"
  | "boot"
  | "pause"
  | "resume"
  | "shutdown"
  | "nmi"
  | "addDevice"
  | "removeDevice"
  | "resize"
  | "resizeZone"
  | "resizeDisk"
  | "snapshot"
  | "coredump";

/** Makes fake VMs. */
export class FakeVmFactory implements VmFactory {
  /** Every call on the factory and its instances, as `name` or `name argument`. */
  readonly calls: string[] = [];
  /** What a call fails with. */
  readonly failures = new Map<FakeCall, unknown>();
  /** What a call waits for. */
  readonly gates = new Map<FakeCall, Promise<void>>();
  /** The instance made last. */
  current: FakeVm | undefined;

  async step(call: FakeCall, argument = ""): Promise<void> {
    this.calls.push(argument === "" ? call : `${call} ${argument}`);
    await this.gates.get(call);
    const failure = this.failures.get(call);
    if (failure !== undefined) throw failure;
  }

  async prepareConsoles(config: VmConfig): Promise<VmConfig> {
    await this.step("prepareConsoles");
    return config.serial.mode === "Pty"
      ? { ...config, serial: { ...config.serial, file: "/dev/pts/7" } }
      : config;
  }

  async releaseConsoles(): Promise<void> {
    this.calls.push("releaseConsoles");
  }

  async create(config: VmConfig, onEvent: (event: GuestEvent) => void): Promise<VmInstance> {
    await this.step("create");
    return this.current = new FakeVm(this, config, onEvent);
  }
}

/** A fake VM. */
export class FakeVm implements VmInstance {
  state: VmState = "Created";
  readonly config: VmConfig;
  readonly #devices = new Set<string>();
  #nextId = 0;

  constructor(
    private readonly factory: FakeVmFactory,
    config: VmConfig,
    /** Lets a test play the guest. */
    readonly guest: (event: GuestEvent) => void,
  ) {
    const disks = config.disks?.map((disk) => ({ ...disk, id: disk.id ?? `_disk${this.#nextId++}` }));
    for (const { id } of disks ?? []) this.#devices.add(id);
    this.config = disks === undefined ? config : { ...config, disks };
  }

  async boot(): Promise<void> {
    await this.factory.step("boot");
    this.state = "Running";
  }

  async pause(): Promise<void> {
    await this.factory.step("pause");
    this.state = "Paused";
  }

  async resume(): Promise<void> {
    await this.factory.step("resume");
    this.state = "Running";
  }

  async shutdown(): Promise<void> {
    this.state = "Shutdown";
    await this.factory.step("shutdown");
  }

  powerButton(): void {
    this.factory.calls.push("powerButton");
  }

  nmi(): Promise<void> {
    return this.factory.step("nmi");
  }

  counters(): Record<string, Record<string, bigint>> {
    return { _disk0: { read_ops: 3n, read_latency_min: 0xffff_ffff_ffff_ffffn } };
  }

  deviceTree(): Record<string, unknown> {
    return {
      _disk0: {
        id: "_disk0",
        resources: [{
          PciBar: { index: 0, base: 0xe800_0000n, size: 0x8_0000n, type_: "Mmio32", prefetchable: false },
        }],
        parent: "_virtio-pci-_disk0",
        children: [],
        pci_bdf: "0000:00:01.0",
      },
    };
  }

  memoryActualSize(): bigint {
    return this.config.memory.size;
  }

  async addDevice(kind: HotplugKind, config: unknown): Promise<PciDeviceAddress> {
    const { fds = [] } = config as { fds?: readonly number[] };
    await this.factory.step("addDevice", fds.length === 0 ? kind : `${kind} ${fds.length} fds`);
    const id = (config as { id?: string }).id ?? `_${kind.replaceAll("-", "_")}${this.#nextId++}`;
    this.#devices.add(id);
    return { id, bdf: "0000:00:06.0" };
  }

  async removeDevice(id: string): Promise<void> {
    await this.factory.step("removeDevice", id);
    if (!this.#devices.delete(id)) {
      throw new StateError("DEVICE_UNKNOWN", 404, [
        "Error from device manager",
        `Failed to find device corresponding to the given identifier: ${id}`,
      ]);
    }
  }

  async resize(request: { vcpus?: number; ramBytes?: bigint; balloonBytes?: bigint }): Promise<void> {
    await this.factory.step(
      "resize",
      Object.entries(request).map(([name, value]) => `${name}=${value}`).join(),
    );
    if (request.balloonBytes !== undefined && this.config.balloon === undefined) {
      throw new ContextError(
        ["Error from device manager", "Missing virtio-balloon, can't proceed as expected"],
        undefined,
      );
    }
  }

  resizeZone(id: string, ramBytes: bigint): Promise<void> {
    return this.factory.step("resizeZone", `${id} ${ramBytes}`);
  }

  resizeDisk(id: string, sizeBytes: bigint): Promise<void> {
    return this.factory.step("resizeDisk", `${id} ${sizeBytes}`);
  }

  snapshot(destinationUrl: string): Promise<void> {
    return this.factory.step("snapshot", destinationUrl);
  }

  coredump(destinationUrl: string): Promise<void> {
    return this.factory.step("coredump", destinationUrl);
  }

  metrics(): Record<string, number> {
    return { exits_io_in: 12, exits_mmio_write: 34 };
  }
}

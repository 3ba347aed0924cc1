/**
 * Everything a VMM can be asked to do, typed, whatever carries the requests.
 *
 * L6. No zod at run time but for answers with 64-bit numbers. Source: spec/rest-api.md §2; types from schemas/api.
 */
import type { z } from "zod";
import type { DeviceConfigSchema, UserDeviceConfigSchema } from "@schemas/api/assigned_device.ts";
import type { DiskConfigSchema } from "@schemas/api/disk.ts";
import type { VmmEvent } from "@schemas/api/event.ts";
import type {
  ReceiveMigrationDataSchema,
  RestoreConfigSchema,
  SendMigrationDataSchema,
} from "@schemas/api/migration.ts";
import type { NetConfigSchema } from "@schemas/api/net.ts";
import type { VmResize, VmResizeDisk, VmResizeZone } from "@schemas/api/requests.ts";
import type {
  FsConfigSchema,
  GenericVhostUserConfigSchema,
  PmemConfigSchema,
  VdpaConfigSchema,
  VsockConfigSchema,
} from "@schemas/api/virtio_devices.ts";
import type { VmConfigSchema } from "@schemas/api/vm_config.ts";
import type { PciDeviceInfo, VmCounters, VmInfo, VmmPingResponse } from "@schemas/api/vm_info.ts";
import { readObject } from "./answer_error.ts";

/** What a structure is given as: fields with defaults may be left out. */
type Given<S extends z.ZodType> = z.input<S>;

/** A VM's configuration as `create()` takes it: fields with defaults may be left out. Sizes are `bigint`, in bytes. */
export type VmConfigInput = Given<typeof VmConfigSchema>;
/** A disk as `addDisk()` takes it: fields with defaults may be left out. */
export type DiskConfigInput = Given<typeof DiskConfigSchema>;
/** A network interface as `addNet()` takes it: fields with defaults may be left out. */
export type NetConfigInput = Given<typeof NetConfigSchema>;
/** A shared directory as `addFs()` takes it: fields with defaults may be left out. */
export type FsConfigInput = Given<typeof FsConfigSchema>;
/** Persistent memory as `addPmem()` takes it: fields with defaults may be left out. */
export type PmemConfigInput = Given<typeof PmemConfigSchema>;
/** A socket device as `addVsock()` takes it: fields with defaults may be left out. */
export type VsockConfigInput = Given<typeof VsockConfigSchema>;
/** A vDPA device as `addVdpa()` takes it: fields with defaults may be left out. */
export type VdpaConfigInput = Given<typeof VdpaConfigSchema>;
/** A vhost-user device as `addGenericVhostUser()` takes it: fields with defaults may be left out. */
export type GenericVhostUserConfigInput = Given<typeof GenericVhostUserConfigSchema>;
/** A VFIO device as `addDevice()` takes it: fields with defaults may be left out. */
export type DeviceConfigInput = Given<typeof DeviceConfigSchema>;
/** A vfio-user device as `addUserDevice()` takes it: fields with defaults may be left out. */
export type UserDeviceConfigInput = Given<typeof UserDeviceConfigSchema>;
/** What `restore()` takes: fields with defaults may be left out. */
export type RestoreConfigInput = Given<typeof RestoreConfigSchema>;
/** What `receiveMigration()` takes: fields with defaults may be left out. */
export type ReceiveMigrationDataInput = Given<typeof ReceiveMigrationDataSchema>;
/** What `sendMigration()` takes: fields with defaults may be left out. */
export type SendMigrationDataInput = Given<typeof SendMigrationDataSchema>;

/** Options of one request. */
export interface RequestOptions {
  /** Descriptors to send along. They stay open here. */
  readonly fds?: readonly number[];
  /** Ends the wait for the answer with the signal's reason. What was asked for may be done all the same. */
  readonly signal?: AbortSignal;
}

/** The operations of a VMM. */
export abstract class VmmOperations {
  /**
   * Sends one request; returns the answer's body, undefined when it has none. `endpoint` as `vm.info`; `body` may hold `bigint`.
   * @throws ApiError for an error status, the reason of an aborted `signal`
   */
  abstract request(
    method: "GET" | "PUT",
    endpoint: string,
    body?: unknown,
    options?: RequestOptions,
  ): Promise<string | undefined>;

  /**
   * What happens in the VMM and its VM, from now on, until `signal` aborts or the VMM ends.
   * @throws EventStreamError, in the loop, when it is more than 1,024 events behind
   */
  abstract events(options?: { readonly signal?: AbortSignal }): AsyncGenerator<VmmEvent, void>;

  /** Who answers: version, process id, features. */
  async ping(options?: RequestOptions): Promise<VmmPingResponse> {
    const text = await this.request("GET", "vmm.ping", undefined, options) ?? "";
    return readObject(text) as unknown as VmmPingResponse;
  }

  /** Ends the VMM, and its VM with it. */
  async shutdownVmm(options?: RequestOptions): Promise<void> {
    await this.request("PUT", "vmm.shutdown", undefined, options);
  }

  /** Creates a VM, not booted. */
  async create(config: VmConfigInput, options?: RequestOptions): Promise<void> {
    await this.request("PUT", "vm.create", config, options);
  }

  /** Deletes the VM; a running one is shut down first. */
  async delete(options?: RequestOptions): Promise<void> {
    await this.request("PUT", "vm.delete", undefined, options);
  }

  /** Boots the VM that was created, or that was shut down. */
  async boot(options?: RequestOptions): Promise<void> {
    await this.request("PUT", "vm.boot", undefined, options);
  }

  /** Stops the VM without asking the guest; its configuration stays. */
  async shutdown(options?: RequestOptions): Promise<void> {
    await this.request("PUT", "vm.shutdown", undefined, options);
  }

  /** Stops the VM without asking the guest and boots it again. */
  async reboot(options?: RequestOptions): Promise<void> {
    await this.request("PUT", "vm.reboot", undefined, options);
  }

  /** Presses the power button; what happens is up to the guest. */
  async powerButton(options?: RequestOptions): Promise<void> {
    await this.request("PUT", "vm.power-button", undefined, options);
  }

  /** Stops the vCPUs; the answer comes when they stand still. */
  async pause(options?: RequestOptions): Promise<void> {
    await this.request("PUT", "vm.pause", undefined, options);
  }

  /** Lets the vCPUs of a paused VM run on. */
  async resume(options?: RequestOptions): Promise<void> {
    await this.request("PUT", "vm.resume", undefined, options);
  }

  /** Injects a non-maskable interrupt. */
  async nmi(options?: RequestOptions): Promise<void> {
    await this.request("PUT", "vm.nmi", undefined, options);
  }

  /** State, configuration and devices of the VM. @throws ApiError with status 404 when there is none */
  async info(options?: RequestOptions): Promise<VmInfo> {
    const text = await this.request("GET", "vm.info", undefined, options) ?? "";
    const { readVmInfo } = await import("./answers.ts");
    return readVmInfo(text);
  }

  /** Counters of the running VM, by device, 64-bit exact. */
  async counters(options?: RequestOptions): Promise<VmCounters> {
    const text = await this.request("GET", "vm.counters", undefined, options) ?? "";
    const { readVmCounters } = await import("./answers.ts");
    return readVmCounters(text);
  }

  /** Writes a snapshot of the paused VM into the directory of a `file://` URL. */
  async snapshot(destination_url: string, options?: RequestOptions): Promise<void> {
    await this.request("PUT", "vm.snapshot", { destination_url }, options);
  }

  /** Restores a snapshot. `fds`: those of `net_fds` in order, then those of `vfio_fds`, then the iommufd. */
  async restore(config: RestoreConfigInput, options?: RequestOptions): Promise<void> {
    await this.request("PUT", "vm.restore", config, options);
  }

  /** Writes a core dump to the file of a `file://` URL, which must not exist. */
  async coredump(destination_url: string, options?: RequestOptions): Promise<void> {
    await this.request("PUT", "vm.coredump", { destination_url }, options);
  }

  /** Changes vCPUs, memory, balloon; what is left out stays. */
  async resize(request: VmResize, options?: RequestOptions): Promise<void> {
    await this.request("PUT", "vm.resize", request, options);
  }

  /** Changes the size of a memory zone. */
  async resizeZone(request: VmResizeZone, options?: RequestOptions): Promise<void> {
    await this.request("PUT", "vm.resize-zone", request, options);
  }

  /** Grows or shrinks the image of a disk; the guest is told. */
  async resizeDisk(request: VmResizeDisk, options?: RequestOptions): Promise<void> {
    await this.request("PUT", "vm.resize-disk", request, options);
  }

  /** Adds a disk. Of each `add…` the answer is where a running VM has the device, undefined for one that is not booted. */
  addDisk(
    config: DiskConfigInput,
    options?: RequestOptions,
  ): Promise<PciDeviceInfo | undefined> {
    return this.#add("disk", config, options);
  }

  /** Adds a network interface. `fds`: open taps, one per queue pair. */
  addNet(
    config: NetConfigInput,
    options?: RequestOptions,
  ): Promise<PciDeviceInfo | undefined> {
    return this.#add("net", config, options);
  }

  /** Adds a shared directory (virtiofs); needs `memory.shared`. */
  addFs(config: FsConfigInput, options?: RequestOptions): Promise<PciDeviceInfo | undefined> {
    return this.#add("fs", config, options);
  }

  /** Adds persistent memory (virtio-pmem). */
  addPmem(
    config: PmemConfigInput,
    options?: RequestOptions,
  ): Promise<PciDeviceInfo | undefined> {
    return this.#add("pmem", config, options);
  }

  /** Adds the socket device, of which a VM has one. */
  addVsock(
    config: VsockConfigInput,
    options?: RequestOptions,
  ): Promise<PciDeviceInfo | undefined> {
    return this.#add("vsock", config, options);
  }

  /** Adds a vDPA device. */
  addVdpa(
    config: VdpaConfigInput,
    options?: RequestOptions,
  ): Promise<PciDeviceInfo | undefined> {
    return this.#add("vdpa", config, options);
  }

  /** Adds a device that a vhost-user back-end makes. */
  addGenericVhostUser(
    config: GenericVhostUserConfigInput,
    options?: RequestOptions,
  ): Promise<PciDeviceInfo | undefined> {
    return this.#add("generic-vhost-user", config, options);
  }

  /** Adds a VFIO device. `fds`: at most one, the device. */
  addDevice(
    config: DeviceConfigInput,
    options?: RequestOptions,
  ): Promise<PciDeviceInfo | undefined> {
    return this.#add("device", config, options);
  }

  /** Adds a vfio-user device. */
  addUserDevice(
    config: UserDeviceConfigInput,
    options?: RequestOptions,
  ): Promise<PciDeviceInfo | undefined> {
    return this.#add("user-device", config, options);
  }

  /** Removes a device; a running guest is only asked to let it go, see the event `device-removed`. */
  async removeDevice(id: string, options?: RequestOptions): Promise<void> {
    await this.request("PUT", "vm.remove-device", { id }, options);
  }

  /** Receives a VM; returns when the migration is over. */
  async receiveMigration(
    data: ReceiveMigrationDataInput,
    options?: RequestOptions,
  ): Promise<void> {
    await this.request("PUT", "vm.receive-migration", data, options);
  }

  /** Starts to send the VM; see the events for how it goes. */
  async sendMigration(data: SendMigrationDataInput, options?: RequestOptions): Promise<void> {
    await this.request("PUT", "vm.send-migration", data, options);
  }

  async #add(kind: string, config: unknown, options?: RequestOptions): Promise<PciDeviceInfo | undefined> {
    const text = await this.request("PUT", `vm.add-${kind}`, config, options);
    return text === undefined ? undefined : readObject(text) as unknown as PciDeviceInfo;
  }
}

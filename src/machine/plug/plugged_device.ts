/**
 * What a plug function makes of a device's configuration.
 *
 * L5, main isolate. One file per kind in this folder: configuration in, model and open back-end out. The machine places the
 * result on the PCI bus and hands it to the Workers (`../pci_topology.ts`, `../vm_devices.ts`).
 */
import type { VirtioDeviceDescriptor } from "@vmm/virtio/device.ts";
import type { VirtioPciDescription } from "@vmm/virtio/pci/create.ts";

/** Where a configuration wants its device. */
export interface Placement {
  readonly segment: number;
  /** Slot asked for; the lowest free one when absent. */
  readonly slot?: number;
}

/** A device that is open and described, and not yet on the bus. */
export interface PluggedDevice {
  readonly id: string;
  /** Row of the I/O Worker's table. */
  readonly kind: string;
  readonly placement: Placement;
  readonly model: Pick<
    VirtioPciDescription,
    "virtioId" | "queueSizes" | "features" | "config" | "configWritable" | "forwardsConfig"
  >;
  /** Plain and cloneable: goes to the I/O Worker. */
  readonly backend: unknown;
  /** See `VirtioDeviceDescriptor`. */
  readonly queueGroups?: VirtioDeviceDescriptor["queueGroups"];
  readonly queueAffinity?: VirtioDeviceDescriptor["queueAffinity"];
  /** What the device tree of `vm.info` shows of it: plain JSON values, bigint for 64-bit ones. */
  readonly resources?: readonly unknown[];
  /** The configuration with what opening it filled in. */
  readonly config: unknown;
  /** Texts for the log. */
  readonly warnings: readonly string[];
  /** Locks what must not be used twice; at boot and at hot-plug. @throws VmmError */
  lock?(): void;
  counters?(): Record<string, bigint>;
  /** Closes the back-end; the I/O Worker has let go of it. */
  release(): void;
}

/** The PCI part every device configuration has. */
export interface PciCommon {
  readonly id?: string;
  readonly pci_segment: number;
  readonly pci_device_id?: number;
}

/** Where `config` wants its device. */
export function placementOf(config: PciCommon): Placement {
  return { segment: config.pci_segment, slot: config.pci_device_id };
}

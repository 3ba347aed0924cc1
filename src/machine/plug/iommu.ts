/**
 * virtio-iommu, and the list of the functions behind it.
 *
 * L5, main isolate. The functions are listed before the guest starts: those whose configuration says so, in the order of the
 * devices, and every slot of the segments that lie behind it as a whole, where devices may come later.
 * Source: machine model §5, §6; spec/lifecycle.md §4.
 */
import type { VmConfig } from "@schemas/api/vm_config.ts";
import type { AcpiMachine, PciAddress } from "@vmm/arch/x86_64/acpi/machine.ts";
import type { IommuBackend } from "@vmm/devices/virtio/iommu/handler.ts";
import { iommuModel } from "@vmm/devices/virtio/iommu/model.ts";
import { PCI_SLOTS } from "@vmm/pci/layout.ts";
import { MappingTable } from "@vmm/virtio/iommu/mapping_table.ts";
import type { EndpointDescription } from "@vmm/virtio/iommu/translation.ts";
import type { PluggedDevice } from "./plugged_device.ts";

/** Id of the one IOMMU. */
export const IOMMU_ID = "__iommu";

const DEFAULT_ADDRESS_BITS = 64;
const SEGMENT_SHIFT = 16;
const SLOT_SHIFT = 3;

/** See the module. */
export class VmIommu {
  readonly #table: MappingTable;
  readonly #addressBits: number;
  readonly #segments: readonly number[];
  readonly #endpoints: PciAddress[] = [];
  readonly #indices = new Map<string, number>();
  #address: PciAddress | undefined;

  private constructor(config: VmConfig) {
    const { platform } = config;
    this.#table = MappingTable.create(PCI_SLOTS * (platform?.num_pci_segments ?? 1));
    this.#addressBits = platform?.iommu_address_width_bits ?? DEFAULT_ADDRESS_BITS;
    this.#segments = platform?.iommu_segments ?? [];
  }

  /** The IOMMU of a configuration, if it has one. */
  static of(config: VmConfig): VmIommu | undefined {
    return config.iommu ? new VmIommu(config) : undefined;
  }

  /** True if every device of a segment is behind the IOMMU. */
  covers(segment: number): boolean {
    return this.#segments.includes(segment);
  }

  /** Puts a function behind the IOMMU. */
  attach(segment: number, slot: number): EndpointDescription {
    const key = `${segment}:${slot}`;
    let endpoint = this.#indices.get(key);
    if (endpoint === undefined) {
      const bdf = slot << SLOT_SHIFT;
      endpoint = this.#table.addEndpoint(((segment << SEGMENT_SHIFT) | bdf) >>> 0);
      this.#indices.set(key, endpoint);
      this.#endpoints.push({ segment, bdf });
    }
    return { table: this.#table.buffer, endpoint };
  }

  /** The device itself; the others are in place. */
  plug(): PluggedDevice {
    const backend: IommuBackend = { table: this.#table.buffer, addressBits: this.#addressBits };
    return {
      id: IOMMU_ID,
      kind: "iommu",
      placement: { segment: 0 },
      model: iommuModel(this.#addressBits),
      backend,
      config: true,
      warnings: [],
      release() {},
    };
  }

  /** The device has its slot, and with that the list is complete. */
  placed(slot: number): void {
    this.#address = { segment: 0, bdf: slot << SLOT_SHIFT };
    for (const segment of this.#segments) {
      for (let other = 0; other < PCI_SLOTS; other++) this.attach(segment, other);
    }
  }

  /** What the firmware tables say of it. */
  get description(): AcpiMachine["iommu"] {
    return this.#address && { device: this.#address, endpoints: this.#endpoints };
  }
}

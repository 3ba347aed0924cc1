/**
 * Virtual I/O Translation table: which PCI functions are behind the virtual IOMMU.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §6; ACPI 6.5 §5.2.32.
 */
import { ByteWriter } from "@vmm/arch/x86_64/byte_writer.ts";
import type { PciAddress } from "./machine.ts";
import { type AcpiTable, sdt, SDT_HEADER_BYTES } from "./sdt.ts";

const NODE_PCI_RANGE = 1;
const NODE_VIRTIO_IOMMU_PCI = 3;
/** Where the nodes start, and with them the IOMMU's. */
const NODES_AT = SDT_HEADER_BYTES + 12;

/** Virtual I/O Translation table: the IOMMU's node, then a range of one function per endpoint. */
export function viot(iommu: PciAddress, endpoints: readonly PciAddress[]): AcpiTable {
  const body = new ByteWriter()
    .u16(1 + endpoints.length, NODES_AT).u64(0)
    .u8(NODE_VIRTIO_IOMMU_PCI, 0).u16(16).u16(iommu.segment, iommu.bdf).u64(0);
  for (const { segment, bdf } of endpoints) {
    body.u8(NODE_PCI_RANGE, 0).u16(24)
      .u32(segment * 0x1_0000 + bdf) // endpoint id
      .u16(segment, segment, bdf, bdf) // first and last segment, first and last function
      .u16(NODES_AT).zeros(6);
  }
  return sdt({ signature: "VIOT", revision: 0, oemTableId: "CHVIOT", oemRevision: 0 }, body.take());
}

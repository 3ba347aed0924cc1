/**
 * Numbers and structures of virtio-iommu.
 *
 * L4, any isolate. Source: virtio 1.2 §5.13.
 */

export const VIRTIO_IOMMU_F_INPUT_RANGE = 0;
export const VIRTIO_IOMMU_F_MAP_UNMAP = 2;
export const VIRTIO_IOMMU_F_PROBE = 4;
export const VIRTIO_IOMMU_F_BYPASS_CONFIG = 6;

/** struct virtio_iommu_config: offsets in bytes. */
export const IommuConfigLayout = {
  pageSizeMask: 0,
  inputStart: 8,
  inputEnd: 16,
  domainStart: 24,
  domainEnd: 28,
  probeSize: 32,
  bypass: 36,
  sizeBytes: 40,
} as const;

/** Type of a request: first byte of its head. */
export const VIRTIO_IOMMU_T_ATTACH = 1;
export const VIRTIO_IOMMU_T_DETACH = 2;
export const VIRTIO_IOMMU_T_MAP = 3;
export const VIRTIO_IOMMU_T_UNMAP = 4;
export const VIRTIO_IOMMU_T_PROBE = 5;

/** Offsets in the requests, from the start of the head; `sizeBytes` without the writable tail. */
export const AttachLayout = { domain: 4, endpoint: 8, flags: 12, reserved: 16, sizeBytes: 20 } as const;
export const DetachLayout = { domain: 4, endpoint: 8, sizeBytes: 20 } as const;
export const MapLayout = { domain: 4, start: 8, end: 16, physical: 24, flags: 32, sizeBytes: 36 } as const;
export const UnmapLayout = { domain: 4, start: 8, end: 16, sizeBytes: 28 } as const;
export const ProbeLayout = { endpoint: 4, sizeBytes: 72 } as const;
export const HEAD_BYTES = 4;
export const TAIL_BYTES = 4;

export const VIRTIO_IOMMU_ATTACH_F_BYPASS = 1;

/** struct virtio_iommu_fault: offsets in bytes. */
export const FaultLayout = { reason: 0, flags: 4, endpoint: 8, address: 16, sizeBytes: 24 } as const;
export const VIRTIO_IOMMU_FAULT_R_DOMAIN = 1;
export const VIRTIO_IOMMU_FAULT_R_MAPPING = 2;
export const VIRTIO_IOMMU_FAULT_F_ADDRESS = 1 << 8;

/** A property of an endpoint: a head of type and length, then a reserved region. */
export const VIRTIO_IOMMU_PROBE_T_RESV_MEM = 1;
export const VIRTIO_IOMMU_RESV_MEM_T_MSI = 1;
export const ReservedMemoryLayout = {
  type: 0,
  length: 2,
  subtype: 4,
  start: 8,
  end: 16,
  sizeBytes: 24,
} as const;
const PROPERTY_HEAD_BYTES = 4;

/** Where interrupt messages go: devices may write there, whatever is mapped. */
const MSI_START = 0xfee0_0000n;
const MSI_END = 0xfeef_ffffn;

/** What a probe of any endpoint answers. */
export function probeProperties(): Uint8Array {
  const view = new DataView(new ArrayBuffer(ReservedMemoryLayout.sizeBytes));
  view.setUint16(ReservedMemoryLayout.type, VIRTIO_IOMMU_PROBE_T_RESV_MEM, true);
  view.setUint16(ReservedMemoryLayout.length, ReservedMemoryLayout.sizeBytes - PROPERTY_HEAD_BYTES, true);
  view.setUint8(ReservedMemoryLayout.subtype, VIRTIO_IOMMU_RESV_MEM_T_MSI);
  view.setBigUint64(ReservedMemoryLayout.start, MSI_START, true);
  view.setBigUint64(ReservedMemoryLayout.end, MSI_END, true);
  return new Uint8Array(view.buffer);
}

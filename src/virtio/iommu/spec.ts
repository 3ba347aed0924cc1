/**
 * Numbers of the virtual IOMMU that the mapping table and the device share.
 *
 * L3, any isolate. Source: virtio 1.2 §5.13.6.
 */

/** `status` of a request. */
export const VIRTIO_IOMMU_S_OK = 0;
export const VIRTIO_IOMMU_S_INVAL = 4;
export const VIRTIO_IOMMU_S_RANGE = 5;
export const VIRTIO_IOMMU_S_NOENT = 6;
export const VIRTIO_IOMMU_S_NOMEM = 8;

/** `flags` of a mapping. */
export const VIRTIO_IOMMU_MAP_F_READ = 1;
export const VIRTIO_IOMMU_MAP_F_WRITE = 2;
export const VIRTIO_IOMMU_MAP_F_MMIO = 4;

/** Smallest unit of a mapping; addresses are kept as page numbers, which a double holds exactly. */
export const PAGE_BYTES = 4096;
export const PAGE_SHIFT = 12;
/** Pages of 2^32 bytes. */
export const PAGES_PER_HIGH_WORD = 2 ** 20;
/** The last page of the 64-bit address space. */
export const LAST_PAGE = 2 ** 52 - 1;

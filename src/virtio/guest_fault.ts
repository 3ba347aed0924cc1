/**
 * What a guest's driver did wrong.
 *
 * L3, any isolate.
 */

/** A fault of the guest's driver: a value, never an exception. */
export interface GuestFault {
  readonly fault: string;
  /** A device address that the virtual IOMMU does not let the device use so. */
  readonly refused?: RefusedAccess;
}

/** What a device behind the virtual IOMMU may not do. */
export interface RefusedAccess {
  /** The address in two words. */
  readonly high: number;
  readonly low: number;
  /** `VIRTIO_IOMMU_MAP_F_READ`, `…_WRITE` or both. */
  readonly access: number;
}

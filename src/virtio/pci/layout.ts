/**
 * The virtio-pci transport's numbers: BAR layout, common configuration registers, capability types, status bits.
 *
 * L3, any isolate. Source: virtio 1.2 §2.1, §4.1.4; BAR layout as the original's.
 */

/** BAR0. */
export const VIRTIO_BAR = 0;
export const VIRTIO_BAR_SIZE = 0x8_0000;
export const COMMON_OFFSET = 0x0000;
export const COMMON_SIZE = 0x38;
export const ISR_OFFSET = 0x2000;
export const ISR_SIZE = 1;
export const DEVICE_OFFSET = 0x4000;
export const DEVICE_SIZE = 0x1000;
export const NOTIFY_OFFSET = 0x6000;
export const NOTIFY_SIZE = 0x1000;
export const NOTIFY_MULTIPLIER = 4;
export const MSIX_TABLE_OFFSET = 0x8000;
export const MSIX_TABLE_SIZE = 0x4_0000;
export const MSIX_PENDING_OFFSET = 0x4_8000;
export const MSIX_PENDING_SIZE = 0x800;

/** Where a guest of this transport writes to notify queue `index`; the ioeventfd has no data match. */
export function notifyAddress(barBase: number, index: number): number {
  return barBase + NOTIFY_OFFSET + index * NOTIFY_MULTIPLIER;
}

/** struct virtio_pci_common_cfg. */
export const Common = {
  deviceFeatureSelect: 0x00,
  deviceFeature: 0x04,
  driverFeatureSelect: 0x08,
  driverFeature: 0x0c,
  configVector: 0x10,
  numQueues: 0x12,
  status: 0x14,
  configGeneration: 0x15,
  queueSelect: 0x16,
  queueSize: 0x18,
  queueVector: 0x1a,
  queueEnable: 0x1c,
  queueNotifyOff: 0x1e,
  queueDescLow: 0x20,
  queueDescHigh: 0x24,
  queueDriverLow: 0x28,
  queueDriverHigh: 0x2c,
  queueDeviceLow: 0x30,
  queueDeviceHigh: 0x34,
} as const;

/** cfg_type of the vendor capabilities. */
export const VIRTIO_PCI_CAP_COMMON_CFG = 1;
export const VIRTIO_PCI_CAP_NOTIFY_CFG = 2;
export const VIRTIO_PCI_CAP_ISR_CFG = 3;
export const VIRTIO_PCI_CAP_DEVICE_CFG = 4;
export const VIRTIO_PCI_CAP_PCI_CFG = 5;
export const VIRTIO_PCI_CAP_SHARED_MEMORY_CFG = 8;

export const VIRTIO_STATUS_ACKNOWLEDGE = 0x01;
export const VIRTIO_STATUS_DRIVER = 0x02;
export const VIRTIO_STATUS_DRIVER_OK = 0x04;
export const VIRTIO_STATUS_FEATURES_OK = 0x08;
export const VIRTIO_STATUS_NEEDS_RESET = 0x40;
export const VIRTIO_STATUS_FAILED = 0x80;

/** Status at which a device starts. */
export const STATUS_READY = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK |
  VIRTIO_STATUS_DRIVER_OK;

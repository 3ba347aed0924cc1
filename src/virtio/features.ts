/**
 * Feature bits every device type shares.
 *
 * L3, any isolate. Source: virtio 1.2 §6.
 */
export const VIRTIO_F_RING_INDIRECT_DESC = 28;
export const VIRTIO_F_RING_EVENT_IDX = 29;
export const VIRTIO_F_VERSION_1 = 32;
export const VIRTIO_F_ACCESS_PLATFORM = 33;
export const VIRTIO_F_IN_ORDER = 35;
export const VIRTIO_F_ORDER_PLATFORM = 36;
export const VIRTIO_F_NOTIFICATION_DATA = 38;

/** A feature mask from bit numbers. */
export function featureMask(...bits: number[]): bigint {
  return bits.reduce((mask, bit) => mask | 1n << BigInt(bit), 0n);
}

/** True if `bit` is set in a mask given as two words. */
export function hasFeature(low: number, high: number, bit: number): boolean {
  return ((bit < 32 ? low : high) >>> (bit & 31) & 1) === 1;
}

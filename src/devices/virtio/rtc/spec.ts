/**
 * Messages of the virtio clock device.
 *
 * L4, any isolate. Source: virtio 1.4 §5.22 "RTC Device". All numbers are little-endian.
 */

/** `msg_type` of a request. */
export const VIRTIO_RTC_REQ_READ = 0x0001;
export const VIRTIO_RTC_REQ_CFG = 0x1000;
export const VIRTIO_RTC_REQ_CLOCK_CAP = 0x1001;
export const VIRTIO_RTC_REQ_CROSS_CAP = 0x1002;

/** `status` of a response. */
export const VIRTIO_RTC_S_OK = 0;
export const VIRTIO_RTC_S_EOPNOTSUPP = 2;
export const VIRTIO_RTC_S_ENODEV = 3;
export const VIRTIO_RTC_S_EINVAL = 4;

/** A UTC clock that may or may not smear leap seconds: the host's wall clock, whose keeper we do not know. */
export const VIRTIO_RTC_CLOCK_UTC_MAYBE_SMEARED = 4;

/** Offsets in a request: `msg_type` u16 and 6 reserved bytes, then `clock_id` u16 and 6 bytes where there is one. */
export const RtcRequest = { msg_type: 0, clock_id: 8 } as const;
export const RTC_HEAD_BYTES = 8;
export const RTC_CLOCK_REQUEST_BYTES = 16;

/** Offsets in a response: `status` u8 and 7 reserved bytes, then what the request asked for. */
export const RtcResponse = {
  status: 0,
  /** CFG: number of clocks, u16. */
  num_clocks: 8,
  /** CLOCK_CAP: type u8, smearing u8, flags u8. */
  type: 8,
  /** READ: nanoseconds since 1970-01-01 UTC, u64. */
  clock_reading: 8,
} as const;
export const RTC_RESPONSE_BYTES = 16;

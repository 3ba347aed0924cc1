/**
 * Packets of the socket device.
 *
 * L4, any isolate. Source: virtio 1.2 §5.10; linux/virtio_vsock.h. All numbers are little-endian.
 */

/** struct virtio_vsock_hdr: offsets in bytes. */
export const PacketHeader = {
  src_cid: 0,
  dst_cid: 8,
  src_port: 16,
  dst_port: 20,
  len: 24,
  type: 28,
  op: 30,
  flags: 32,
  buf_alloc: 36,
  fwd_cnt: 40,
  size: 44,
} as const;

/** `type`: the only kind of socket there is. */
export const VIRTIO_VSOCK_TYPE_STREAM = 1;

/** `op`. */
export const VIRTIO_VSOCK_OP_REQUEST = 1;
export const VIRTIO_VSOCK_OP_RESPONSE = 2;
export const VIRTIO_VSOCK_OP_RST = 3;
export const VIRTIO_VSOCK_OP_SHUTDOWN = 4;
export const VIRTIO_VSOCK_OP_RW = 5;
export const VIRTIO_VSOCK_OP_CREDIT_UPDATE = 6;
export const VIRTIO_VSOCK_OP_CREDIT_REQUEST = 7;

/** `flags` of a SHUTDOWN: its sender receives, or sends, no more. */
export const VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE = 1;
export const VIRTIO_VSOCK_SHUTDOWN_F_SEND = 2;
export const SHUTDOWN_BOTH = 3;

/** The host's context id. */
export const VSOCK_HOST_CID = 2;

/** `id` of an event, u32: connections are gone and the guest's CID may be another one. */
export const VIRTIO_VSOCK_EVENT_TRANSPORT_RESET = 0;
export const EVENT_BYTES = 4;

/** Queues. */
export const RX_QUEUE = 0;
export const TX_QUEUE = 1;
export const EVENT_QUEUE = 2;

/**
 * Messages of the vhost-user protocol: numbers, header and payloads.
 *
 * L4, any isolate; pure. All fields are little-endian. What a back-end sends is not trusted: `readHeader` says what is wrong
 * with it. Source: QEMU docs/interop/vhost-user.rst.
 */

/** Requests of the front-end. */
export const VhostUser = {
  GET_FEATURES: 1,
  SET_FEATURES: 2,
  SET_OWNER: 3,
  SET_MEM_TABLE: 5,
  SET_VRING_NUM: 8,
  SET_VRING_ADDR: 9,
  SET_VRING_BASE: 10,
  GET_VRING_BASE: 11,
  SET_VRING_KICK: 12,
  SET_VRING_CALL: 13,
  GET_PROTOCOL_FEATURES: 15,
  SET_PROTOCOL_FEATURES: 16,
  GET_QUEUE_NUM: 17,
  SET_VRING_ENABLE: 18,
  SET_BACKEND_REQ_FD: 21,
  GET_CONFIG: 24,
  SET_CONFIG: 25,
  GET_INFLIGHT_FD: 31,
  SET_INFLIGHT_FD: 32,
  GET_MAX_MEM_SLOTS: 36,
  ADD_MEM_REG: 37,
} as const;

/** Requests of the back-end, on its own channel. */
export const BackendRequest = { CONFIG_CHANGE_MSG: 2 } as const;

/** Virtio feature bit that belongs to the protocol and not to the guest. */
export const VHOST_USER_F_PROTOCOL_FEATURES = 30;

/** Protocol feature bits. */
export const VHOST_USER_PROTOCOL_F_MQ = 0;
export const VHOST_USER_PROTOCOL_F_REPLY_ACK = 3;
export const VHOST_USER_PROTOCOL_F_BACKEND_REQ = 5;
export const VHOST_USER_PROTOCOL_F_CONFIG = 9;
export const VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD = 12;
export const VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS = 15;

/** Message header: request, flags, payload size. */
export const HEADER_BYTES = 12;
const FLAG_VERSION = 1;
const FLAG_VERSION_MASK = 3;
const FLAG_REPLY = 4;
const FLAG_NEED_REPLY = 8;

/** Longest payload of any message either side sends here. */
export const MAX_PAYLOAD_BYTES = 4096;
/** Regions one SET_MEM_TABLE can carry. */
export const MAX_TABLE_REGIONS = 8;
/** Longest device configuration GET_CONFIG can ask for. */
export const MAX_CONFIG_BYTES = 256;
/** Offset, size and flags in front of configuration bytes. */
export const CONFIG_HEADER_BYTES = 12;
/** Size and offset of the shared region, number and size of queues, padding. */
export const INFLIGHT_BYTES = 24;
/** Index and value. */
export const VRING_STATE_BYTES = 8;
export const U64_BYTES = 8;

/** A message with its header. `needReply` asks for an acknowledgement (REPLY_ACK). */
export function encodeMessage(
  request: number,
  payload: Uint8Array,
  flags: { needReply?: boolean; reply?: boolean } = {},
): Uint8Array<ArrayBuffer> {
  const message = new Uint8Array(HEADER_BYTES + payload.byteLength);
  const view = new DataView(message.buffer);
  view.setUint32(0, request, true);
  const bits = FLAG_VERSION | (flags.reply ? FLAG_REPLY : 0) | (flags.needReply ? FLAG_NEED_REPLY : 0);
  view.setUint32(4, bits, true);
  view.setUint32(8, payload.byteLength, true);
  message.set(payload, HEADER_BYTES);
  return message;
}

/** A header that makes sense, or the reason why it does not. */
export type Header =
  | {
    readonly request: number;
    readonly isReply: boolean;
    readonly needReply: boolean;
    readonly sizeBytes: number;
  }
  | { readonly fault: string };

/** Reads the header at the start of `bytes`, which hold at least `HEADER_BYTES`. */
export function readHeader(bytes: Uint8Array): Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  const flags = view.getUint32(4, true);
  const sizeBytes = view.getUint32(8, true);
  if ((flags & FLAG_VERSION_MASK) !== FLAG_VERSION) return { fault: `a message of version ${flags & 3}` };
  if (sizeBytes > MAX_PAYLOAD_BYTES) return { fault: `a message of ${sizeBytes} bytes` };
  return {
    request: view.getUint32(0, true),
    isReply: (flags & FLAG_REPLY) !== 0,
    needReply: (flags & FLAG_NEED_REPLY) !== 0,
    sizeBytes,
  };
}

/** Name of a request for messages to people. */
export function requestName(request: number): string {
  return Object.entries(VhostUser).find(([, value]) => value === request)?.[0] ?? `request ${request}`;
}

/** A region of guest memory as a back-end maps it. Sizes in bytes. */
export interface SharedRegion {
  readonly gpa: number;
  readonly sizeBytes: number;
  /** Where this process has it: ring addresses are given in these terms. */
  readonly hostAddress: bigint;
  readonly fd: number;
  readonly fileOffset: number;
}

/** Payload of one number. */
export function u64Payload(value: bigint | number): Uint8Array<ArrayBuffer> {
  const payload = new DataView(new ArrayBuffer(U64_BYTES));
  payload.setBigUint64(0, BigInt(value), true);
  return new Uint8Array(payload.buffer);
}

/** Payload that names a ring and a number. */
export function vringState(index: number, value: number): Uint8Array<ArrayBuffer> {
  const payload = new DataView(new ArrayBuffer(VRING_STATE_BYTES));
  payload.setUint32(0, index, true);
  payload.setUint32(4, value, true);
  return new Uint8Array(payload.buffer);
}

/** Payload of SET_VRING_ADDR; addresses are this process's. */
export function vringAddresses(
  index: number,
  descriptors: number,
  used: number,
  available: number,
): Uint8Array<ArrayBuffer> {
  const payload = new DataView(new ArrayBuffer(40));
  payload.setUint32(0, index, true);
  payload.setBigUint64(8, BigInt(descriptors), true);
  payload.setBigUint64(16, BigInt(used), true);
  payload.setBigUint64(24, BigInt(available), true);
  return new Uint8Array(payload.buffer);
}

const REGION_BYTES = 32;

function putRegion(view: DataView, at: number, region: SharedRegion): void {
  view.setBigUint64(at, BigInt(region.gpa), true);
  view.setBigUint64(at + 8, BigInt(region.sizeBytes), true);
  view.setBigUint64(at + 16, region.hostAddress, true);
  view.setBigUint64(at + 24, BigInt(region.fileOffset), true);
}

/** Payload of SET_MEM_TABLE; the descriptors go with it in the same order. */
export function memoryTable(regions: readonly SharedRegion[]): Uint8Array<ArrayBuffer> {
  const payload = new DataView(new ArrayBuffer(8 + REGION_BYTES * regions.length));
  payload.setUint32(0, regions.length, true);
  regions.forEach((region, i) => putRegion(payload, 8 + REGION_BYTES * i, region));
  return new Uint8Array(payload.buffer);
}

/** Payload of ADD_MEM_REG. */
export function memoryRegion(region: SharedRegion): Uint8Array<ArrayBuffer> {
  const payload = new DataView(new ArrayBuffer(8 + REGION_BYTES));
  putRegion(payload, 8, region);
  return new Uint8Array(payload.buffer);
}

/** Payload of GET_CONFIG (zeroed bytes) and SET_CONFIG. */
export function configPayload(offset: number, bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const payload = new Uint8Array(CONFIG_HEADER_BYTES + bytes.byteLength);
  const view = new DataView(payload.buffer);
  view.setUint32(0, offset, true);
  view.setUint32(4, bytes.byteLength, true);
  payload.set(bytes, CONFIG_HEADER_BYTES);
  return payload;
}

/** Payload of GET_INFLIGHT_FD. */
export function inflightRequest(queueCount: number, queueSize: number): Uint8Array<ArrayBuffer> {
  const payload = new DataView(new ArrayBuffer(INFLIGHT_BYTES));
  payload.setUint16(16, queueCount, true);
  payload.setUint16(18, queueSize, true);
  return new Uint8Array(payload.buffer);
}

/** The number in a payload of `U64_BYTES`. */
export function readU64(payload: Uint8Array): bigint {
  return new DataView(payload.buffer, payload.byteOffset, U64_BYTES).getBigUint64(0, true);
}

/** True if `bit` is set. */
export function hasBit(mask: bigint, bit: number): boolean {
  return (mask >> BigInt(bit) & 1n) === 1n;
}

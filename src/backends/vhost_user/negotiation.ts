/**
 * What front-end and back-end agree on when they meet: features, protocol features, queues, device configuration.
 *
 * L4, any isolate. On the main isolate as a device is made, in the I/O Worker whenever the back-end comes back.
 * Source: QEMU docs/interop/vhost-user.rst; spec/machine-model.md §12.
 */
import { VIRTIO_F_VERSION_1 } from "@vmm/virtio/features.ts";
import { BackendFault, type ReplyShape, type Script, type VhostUserConnection } from "./connection.ts";
import {
  CONFIG_HEADER_BYTES,
  configPayload,
  hasBit,
  MAX_CONFIG_BYTES,
  readU64,
  U64_BYTES,
  u64Payload,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VHOST_USER_PROTOCOL_F_CONFIG,
  VHOST_USER_PROTOCOL_F_MQ,
  VHOST_USER_PROTOCOL_F_REPLY_ACK,
  VhostUser,
} from "./protocol.ts";

/** What a device would like to have. */
export interface Wishes {
  /** Virtio features, those of the protocol included. */
  readonly features: bigint;
  readonly protocolFeatures: bigint;
  /** Rings the back-end has to serve. */
  readonly queueCount: number;
  /** Rings a back-end has that cannot say how many. */
  readonly defaultQueueCount: number;
  /** How much configuration to read: exactly so many bytes, as many as there are, or none. */
  readonly config: number | "all" | "none";
}

/** What was agreed. */
export interface Agreement {
  /** Offered by the back-end and wished for, without the protocol's own bits. */
  readonly features: bigint;
  /** The protocol's own bits: they go into every SET_FEATURES. */
  readonly transportFeatures: bigint;
  readonly protocolFeatures: bigint;
  /** Empty when there is none. */
  readonly config: Uint8Array;
}

const NONE = new Uint8Array(0);
const U64_REPLY: ReplyShape = { minBytes: U64_BYTES, maxBytes: U64_BYTES, descriptors: 0 };
const TRANSPORT_FEATURES = 1n << BigInt(VHOST_USER_F_PROTOCOL_FEATURES);

function* askU64(request: number): Script<bigint> {
  const { payload } = yield { request, payload: NONE, reply: U64_REPLY };
  return readU64(payload);
}

/** Introduces a new connection and finds out what the back-end can do. @throws BackendFault */
export function* negotiate(connection: VhostUserConnection, wishes: Wishes): Script<Agreement> {
  yield { request: VhostUser.SET_OWNER, payload: NONE };
  const offered = yield* askU64(VhostUser.GET_FEATURES);
  const common = offered & wishes.features;
  if (!hasBit(common, VIRTIO_F_VERSION_1)) {
    throw new BackendFault("The back-end does not offer a virtio 1.0 device");
  }
  let protocolFeatures = 0n;
  if (hasBit(common, VHOST_USER_F_PROTOCOL_FEATURES)) {
    protocolFeatures = (yield* askU64(VhostUser.GET_PROTOCOL_FEATURES)) & wishes.protocolFeatures;
    yield { request: VhostUser.SET_PROTOCOL_FEATURES, payload: u64Payload(protocolFeatures) };
    connection.acknowledges = hasBit(protocolFeatures, VHOST_USER_PROTOCOL_F_REPLY_ACK);
  }
  const queues = hasBit(protocolFeatures, VHOST_USER_PROTOCOL_F_MQ)
    ? Number(yield* askU64(VhostUser.GET_QUEUE_NUM))
    : wishes.defaultQueueCount;
  if (wishes.queueCount > queues) {
    throw new BackendFault(
      `The back-end serves ${queues} queues, the device is configured with ${wishes.queueCount}`,
    );
  }
  const hasConfig = hasBit(protocolFeatures, VHOST_USER_PROTOCOL_F_CONFIG) && wishes.config !== "none";
  const config = !hasConfig
    ? NONE
    : wishes.config === "all"
    ? yield* findConfig()
    : yield* needConfig(wishes.config as number);
  return {
    features: common & ~TRANSPORT_FEATURES,
    transportFeatures: common & TRANSPORT_FEATURES,
    protocolFeatures,
    config,
  };
}

/** Reads the first `lengthBytes` of the device's configuration; undefined when it has none of that length. */
export function* readConfig(lengthBytes: number): Script<Uint8Array | undefined> {
  const { payload } = yield {
    request: VhostUser.GET_CONFIG,
    payload: configPayload(0, new Uint8Array(lengthBytes)),
    reply: { minBytes: 0, maxBytes: CONFIG_HEADER_BYTES + lengthBytes, descriptors: 0 },
  };
  if (payload.byteLength !== CONFIG_HEADER_BYTES + lengthBytes) return undefined;
  const told = new DataView(payload.buffer, payload.byteOffset).getUint32(4, true);
  return told === lengthBytes ? payload.subarray(CONFIG_HEADER_BYTES) : undefined;
}

/** Tells the back-end that the driver wrote configuration bytes. */
export function* writeConfig(offset: number, bytes: Uint8Array): Script<void> {
  yield { request: VhostUser.SET_CONFIG, payload: configPayload(offset, bytes) };
}

function* needConfig(lengthBytes: number): Script<Uint8Array> {
  const config = yield* readConfig(lengthBytes);
  if (config === undefined) {
    throw new BackendFault(`The back-end has no device configuration of ${lengthBytes} bytes`);
  }
  return config;
}

/** The longest configuration the back-end gives: it does not tell its length, but refuses what is too long. */
function* findConfig(): Script<Uint8Array> {
  const whole = yield* readConfig(MAX_CONFIG_BYTES);
  if (whole !== undefined) return whole;
  let best: Uint8Array = NONE;
  for (let low = 1, high = MAX_CONFIG_BYTES - 1; low <= high;) {
    const middle = (low + high) >>> 1;
    const config = yield* readConfig(middle);
    if (config === undefined) high = middle - 1;
    else {
      best = config;
      low = middle + 1;
    }
  }
  return best;
}

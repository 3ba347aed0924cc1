/**
 * Requests around rings: giving them to a back-end, and taking them back.
 *
 * L4, I/O Worker. Source: QEMU docs/interop/vhost-user.rst "Ring states", "Inflight I/O tracking".
 */
import type { ServedDevice, ServedRing } from "@vmm/virtio/ports/ring_backend.ts";
import { BackendFault, type Script } from "./connection.ts";
import type { Agreement } from "./negotiation.ts";
import {
  hasBit,
  INFLIGHT_BYTES,
  inflightRequest,
  MAX_TABLE_REGIONS,
  memoryRegion,
  memoryTable,
  type SharedRegion,
  u64Payload,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
  VhostUser,
  VRING_STATE_BYTES,
  vringAddresses,
  vringState,
} from "./protocol.ts";

/** Shared memory in which a back-end notes what it has taken: outlives the back-end. */
export interface InflightRegion {
  readonly payload: Uint8Array<ArrayBuffer>;
  readonly fd: number;
}

/** Gives the back-end all of guest memory. @throws BackendFault when it takes fewer regions than there are */
export function* shareMemory(regions: readonly SharedRegion[], protocolFeatures: bigint): Script<void> {
  if (regions.length <= MAX_TABLE_REGIONS) {
    yield {
      request: VhostUser.SET_MEM_TABLE,
      payload: memoryTable(regions),
      descriptors: regions.map((region) => region.fd),
    };
  } else if (hasBit(protocolFeatures, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)) {
    for (const region of regions) yield* addMemory(region);
  } else {
    throw new BackendFault(`The back-end cannot take ${regions.length} memory regions`);
  }
}

/** Gives the back-end one region more. */
export function* addMemory(region: SharedRegion): Script<void> {
  yield { request: VhostUser.ADD_MEM_REG, payload: memoryRegion(region), descriptors: [region.fd] };
}

/** Asks for a region in which the back-end notes what it has taken. */
export function* askInflight(rings: readonly ServedRing[]): Script<InflightRegion> {
  const count = Math.max(...rings.map((ring) => ring.index)) + 1;
  const size = Math.max(...rings.map((ring) => ring.size));
  const { payload, descriptors } = yield {
    request: VhostUser.GET_INFLIGHT_FD,
    payload: inflightRequest(count, size),
    reply: { minBytes: INFLIGHT_BYTES, maxBytes: INFLIGHT_BYTES, descriptors: 1 },
  };
  return { payload, fd: descriptors[0] };
}

/** Gives that region to a back-end, perhaps another than the one that filled it. */
export function* giveInflight(region: InflightRegion): Script<void> {
  yield { request: VhostUser.SET_INFLIGHT_FD, payload: region.payload, descriptors: [region.fd] };
}

/** Descriptors of a ring. */
export interface RingDescriptors {
  readonly kickFd: number;
  readonly callFd: number;
}

/** Accepts features: before anything about rings. */
export function* acceptFeatures(device: ServedDevice, agreement: Omit<Agreement, "config">): Script<void> {
  const accepted = (device.features & agreement.features) | agreement.transportFeatures;
  yield { request: VhostUser.SET_FEATURES, payload: u64Payload(accepted) };
}

/** Starts one ring. */
export function* startRing(ring: ServedRing, lost: boolean, descriptors: RingDescriptors): Script<void> {
  const { index } = ring;
  yield { request: VhostUser.SET_VRING_NUM, payload: vringState(index, ring.size) };
  yield { request: VhostUser.SET_VRING_BASE, payload: vringState(index, ring.position(lost)) };
  yield {
    request: VhostUser.SET_VRING_ADDR,
    payload: vringAddresses(index, ring.descriptors, ring.device, ring.driver),
  };
  const { callFd, kickFd } = descriptors;
  yield { request: VhostUser.SET_VRING_CALL, payload: u64Payload(index), descriptors: [callFd] };
  yield { request: VhostUser.SET_VRING_KICK, payload: u64Payload(index), descriptors: [kickFd] };
}

/** Lets the back-end work on a started ring, or not. Without protocol features a ring works once it is started. */
export function* enableRing(index: number, on: boolean, transportFeatures: bigint): Script<void> {
  if (!hasBit(transportFeatures, VHOST_USER_F_PROTOCOL_FEATURES)) return;
  yield { request: VhostUser.SET_VRING_ENABLE, payload: vringState(index, on ? 1 : 0) };
}

/** Stops one ring; returns the next available entry the back-end would have taken. */
export function* stopRing(index: number): Script<number> {
  const { payload } = yield {
    request: VhostUser.GET_VRING_BASE,
    payload: vringState(index, 0),
    reply: { minBytes: VRING_STATE_BYTES, maxBytes: VRING_STATE_BYTES, descriptors: 0 },
  };
  const view = new DataView(payload.buffer, payload.byteOffset);
  if (view.getUint32(0, true) !== index) throw new BackendFault(`The back-end answered for another ring`);
  return view.getUint32(4, true) & 0xffff;
}

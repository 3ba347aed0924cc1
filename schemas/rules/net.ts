/**
 * Rules about network devices.
 *
 * L0, pure. Source: spec/schemas.md rule 6.
 */
import type { NetConfig } from "@schemas/api/net.ts";
import type { RuleContext } from "./context.ts";
import { fault, type Faults } from "./fault.ts";
import { noIommuFaults, pciFaults } from "./pci.ts";
import { queueCountFaults, queueSizeFaults, sharedMemoryFaults } from "./queues.ts";

const MIN_QUEUES = 2;
/** A tap descriptor serves one receive and one transmit queue. */
const QUEUES_PER_TAP = 2;
/** Standard input, output and error. */
const LAST_RESERVED_FD = 2;
/** Source: virtio 1.2 §5.1.4.1. */
const MIN_MTU = 1280;

/** One network device. */
export function* netFaults(net: NetConfig, path: string, context: RuleContext): Faults {
  if (net.vhost_user) yield* sharedMemoryFaults(`${path}.vhost_user`, context);
  if (net.vhost_user && net.vhost_socket === undefined) {
    yield fault("No socket provided when using vhost-user", `${path}.vhost_socket`);
  }
  if (net.vhost_user && net.rate_limiter_config !== undefined) {
    yield fault("Rate limiting is not supported with vhost-user", `${path}.rate_limiter_config`);
  }
  yield* pciFaults(net, path, context);
  if (net.num_queues < MIN_QUEUES) {
    yield fault(
      `Number of queues (${net.num_queues}) to virtio_net should be higher than ${MIN_QUEUES}`,
      `${path}.num_queues`,
      net.num_queues,
    );
  }
  yield* descriptorFaults(net, path);
  yield* queueCountFaults(net.num_queues, Math.floor(net.num_queues / QUEUES_PER_TAP), path, context);
  yield* queueSizeFaults(net.queue_size, `${path}.queue_size`);
  if (net.vhost_user) yield* noIommuFaults(net, path);
  if (net.mtu !== undefined && net.mtu < MIN_MTU) {
    yield fault(
      `Provided MTU ${net.mtu} is lower than ${MIN_MTU} (expected by VIRTIO specification)`,
      `${path}.mtu`,
      net.mtu,
    );
  }
  if (!net.offload_csum && (net.offload_tso || net.offload_ufo)) {
    yield fault('"offload_tso" and "offload_ufo" depend on "offload_csum"', `${path}.offload_csum`, false);
  }
  if (net.mask !== undefined && net.ip === undefined) {
    yield fault("Mask provided without an IP", `${path}.mask`, net.mask);
  }
  if (net.ip !== undefined && net.mask === undefined) {
    yield fault("IP provided without a mask", `${path}.ip`, net.ip);
  }
}

function* descriptorFaults(net: NetConfig, path: string): Faults {
  if (net.fds === undefined) return;
  const served = net.fds.length * QUEUES_PER_TAP;
  if (served !== net.num_queues) {
    yield fault(
      `Number of queues (${net.num_queues}) to virtio_net does not match the number of FDs (${served})`,
      `${path}.num_queues`,
      net.num_queues,
    );
  }
  const reserved = net.fds.find((fd) => fd <= LAST_RESERVED_FD);
  if (reserved !== undefined) {
    yield fault(`Reserved fd number (<= ${LAST_RESERVED_FD}): ${reserved}`, `${path}.fds`, reserved);
  }
}

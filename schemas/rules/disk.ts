/**
 * Rules about disks and rate limit groups.
 *
 * L0, pure. Source: spec/schemas.md rules 4 and 5.
 */
import type { DiskConfig } from "@schemas/api/disk.ts";
import type { RateLimiterGroupConfig } from "@schemas/api/rate_limiter.ts";
import type { RuleContext } from "./context.ts";
import { fault, type Faults } from "./fault.ts";
import { noIommuFaults, pciFaults } from "./pci.ts";
import { queueCountFaults, queueSizeFaults, sharedMemoryFaults } from "./queues.ts";

/** Queue sizes up to this leave no room for a request's descriptors. */
const TOO_SMALL_BLOCK_QUEUE_SIZE = 2;
/** Bytes of the identification string. Source: virtio 1.2 §5.2.6. */
const VIRTIO_BLK_ID_BYTES = 20;

const INVALID_GROUP = "Invalid rate-limiter group";

/** One rate limit group: it has a name and limits something. */
export function* rateLimitGroupFaults(group: RateLimiterGroupConfig, path: string): Faults {
  if (group.id === "") yield fault(INVALID_GROUP, `${path}.id`, group.id);
  const { bandwidth, ops } = group.rate_limiter_config;
  if (bandwidth === undefined && ops === undefined) yield fault(INVALID_GROUP, `${path}.rate_limiter_config`);
}

/** One disk. */
export function* diskFaults(disk: DiskConfig, path: string, context: RuleContext): Faults {
  const { vhost_user: vhostUser, rate_limit_group: group } = disk;
  if (disk.vhost_socket !== undefined && disk.path !== undefined) {
    yield fault("Disk path and vhost socket both provided", `${path}.path`, disk.path);
  }
  if (vhostUser) yield* sharedMemoryFaults(`${path}.vhost_user`, context);
  if (vhostUser && disk.vhost_socket === undefined) {
    yield fault("No socket provided when using vhost-user", `${path}.vhost_socket`);
  }
  if (vhostUser && (disk.rate_limiter_config !== undefined || group !== undefined)) {
    yield fault("Rate limiting is not supported with vhost-user", `${path}.rate_limiter_config`);
  }
  if (group !== undefined && !context.config.rate_limit_groups?.some(({ id }) => id === group)) {
    yield fault(INVALID_GROUP, `${path}.rate_limit_group`, group);
  }
  yield* pciFaults(disk, path, context);
  yield* queueCountFaults(disk.num_queues, disk.num_queues, path, context);
  yield* queueSizeFaults(disk.queue_size, `${path}.queue_size`);
  if (disk.queue_size <= TOO_SMALL_BLOCK_QUEUE_SIZE) {
    yield fault(
      `Block queue size must be greater than ${TOO_SMALL_BLOCK_QUEUE_SIZE}: ${disk.queue_size}`,
      `${path}.queue_size`,
      disk.queue_size,
    );
  }
  if (vhostUser) yield* noIommuFaults(disk, path);
  if (disk.rate_limiter_config !== undefined && group !== undefined) {
    yield fault(INVALID_GROUP, `${path}.rate_limit_group`, group);
  }
  yield* serialFaults(disk.serial, path);
}

function* serialFaults(serial: string | undefined, path: string): Faults {
  if (serial === undefined) return;
  const lengthBytes = new TextEncoder().encode(serial).length;
  if (lengthBytes > VIRTIO_BLK_ID_BYTES) {
    yield fault(
      `Block device serial length (${lengthBytes}) exceeds maximum allowed length (${VIRTIO_BLK_ID_BYTES})`,
      `${path}.serial`,
      serial,
    );
  }
}

/**
 * Rules about virtqueues, common to several devices.
 *
 * L0, pure. Source: spec/schemas.md rules 5 to 7; virtio 1.2 §2.7 (queue size a power of two, at most 32768).
 */
import type { RuleContext } from "./context.ts";
import { fault, type Faults } from "./fault.ts";

const MAX_QUEUE_SIZE = 32768;

/** Number of queues against boot vCPUs; `limited` is the part of `count` that needs a vCPU each. */
export function* queueCountFaults(
  count: number,
  limited: number,
  path: string,
  context: RuleContext,
): Faults {
  const vcpus = context.config.cpus.boot_vcpus;
  if (limited > vcpus) {
    yield fault(`Queue count (${count}) must not exceed boot vCPUs (${vcpus})`, `${path}.num_queues`, count);
  }
}

/** Size of one queue at `path`. */
export function* queueSizeFaults(size: number, path: string): Faults {
  if (size === 0 || (size & (size - 1)) !== 0 || size > MAX_QUEUE_SIZE) {
    yield fault(`Queue size must be a power of 2 no greater than ${MAX_QUEUE_SIZE}: ${size}`, path, size);
  }
}

/** A back-end in another process needs to map guest memory. */
export function* sharedMemoryFaults(path: string, context: RuleContext): Faults {
  if (!context.sharedMemory) {
    yield fault("Using vhost-user requires using shared memory or huge pages", path);
  }
}

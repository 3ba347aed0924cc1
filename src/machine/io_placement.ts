/**
 * Which thread serves which queues of a device.
 *
 * L5, pure. Every device is served by the first I/O Worker unless there is a reason: a queue that is bound to host CPUs has a
 * thread of its own, and queues of a device with several are spread while the host has CPUs to spare. Queues that have to
 * stay together (of one copy-on-write image, of one pair) stay together. Source: docs/adr/0010-io-workers.md.
 */
import type { VirtioDeviceDescriptor } from "@vmm/virtio/device.ts";

/** A thread beside the first I/O Worker. */
export interface ThreadWish {
  readonly name: string;
  /** Host CPUs to run on; all when absent. */
  readonly cpus?: readonly number[];
}

/** Part of a device's queues. */
export interface QueueShare {
  readonly queues: readonly number[];
  /** Absent: the first I/O Worker. */
  readonly thread?: ThreadWish;
}

/** A device's shares, the leading one first, and what to tell the user. */
export interface DevicePlacement {
  readonly shares: readonly QueueShare[];
  readonly warnings: readonly string[];
}

/** What placing looks at. */
export type QueuesToPlace = Pick<VirtioDeviceDescriptor, "id" | "kind" | "queueGroups" | "queueAffinity"> & {
  readonly kickFds: { readonly length: number };
};

/** Most threads for queues nobody asked a thread for, whatever the host has: each costs about 9 MiB. */
const MOST_SPREAD = 4;
/** A thread is spread to only where this many CPUs per I/O thread remain: guests need theirs. */
const CPUS_PER_THREAD = 2;

/** How many threads beside the first one a VM may have for queues nobody asked a thread for. */
export function spareThreads(hostCpus: number): number {
  return Math.max(0, Math.min(MOST_SPREAD, Math.floor(hostCpus / CPUS_PER_THREAD) - 1));
}

/** Names a thread by the first queue it serves; the kernel keeps 15 bytes, of which the queue must not be cut. */
function threadName(device: QueuesToPlace, group: number): string {
  const tail = device.kind === "net" ? `_qp${group}` : `_q${group}`;
  return device.id.slice(0, 15 - tail.length) + tail;
}

/**
 * Places a device's queues.
 *
 * @param spare threads that may still be made for queues without affinity
 */
export function placeQueues(device: QueuesToPlace, spare: number): DevicePlacement {
  const all = Array.from({ length: device.kickFds.length }, (_, queue) => queue);
  const groups = device.queueGroups ?? [all];
  const warnings: string[] = [];
  const shared: number[] = [];
  const shares: (QueueShare & { group: number })[] = [];
  const free: number[] = [];
  groups.forEach((queues, group) => {
    const wishes = (device.queueAffinity ?? []).filter(({ queue }) => queues.includes(queue));
    if (wishes.length === 0) {
      free.push(group);
      return;
    }
    const cpus = [...new Set(wishes.flatMap((wish) => wish.cpus))].sort((a, b) => a - b);
    if (queues.length > 1 && wishes.length > 1) {
      warnings.push(
        `${device.id}: queues ${queues.join(", ")} have to be served by one thread, on all of their CPUs: ${
          cpus.join(", ")
        }`,
      );
    }
    shares.push({ group, queues, thread: { name: threadName(device, group), cpus } });
  });
  // The first group of those left stays with the first Worker, which takes its turn again after the spare threads.
  const threads = Math.min(spare, Math.max(0, free.length - 1));
  const spread: number[][] = Array.from({ length: threads }, () => []);
  free.forEach((group, i) => {
    const turn = i % (threads + 1);
    (turn === 0 ? shared : spread[turn - 1]).push(...groups[group]);
    if (turn > 0 && spread[turn - 1].length === groups[group].length) {
      shares.push({ group, queues: spread[turn - 1], thread: { name: threadName(device, group) } });
    }
  });
  if (shared.length > 0) shares.push({ group: free[0], queues: shared });
  // Whoever has the first group leads.
  const isFirst = ({ queues }: QueueShare) => groups.length === 0 || queues.includes(groups[0][0]);
  const ordered = [...shares.filter(isFirst), ...shares.filter((share) => !isFirst(share))];
  return {
    shares: ordered.map(({ queues, thread }) => thread === undefined ? { queues } : { queues, thread }),
    warnings,
  };
}

/**
 * Rules about NUMA nodes.
 *
 * L0, pure. Source: spec/schemas.md rule 15.
 */
import type { NumaConfig } from "@schemas/api/numa.ts";
import type { RuleContext } from "./context.ts";
import { fault, type Faults } from "./fault.ts";
import { invalidSegment } from "./pci.ts";

const numaFault = (message: string, path: string, value?: unknown) =>
  fault(`Invalid NUMA configuration: ${message}`, path, value);

/** All nodes together: a zone or a segment belongs to one node. */
export function* numaFaults(nodes: readonly NumaConfig[], context: RuleContext): Faults {
  const zoneOwners = new Map<string, number>();
  const segmentOwners = new Map<number, number>();
  for (const [index, node] of nodes.entries()) {
    const path = `numa[${index}]`;
    const guestNode = node.guest_numa_id;
    yield* shapeFaults(node, path);
    for (const zone of node.memory_zones ?? []) {
      const owner = zoneOwners.get(zone);
      if (owner !== undefined) {
        yield fault(
          `Memory zone: ${zone} belongs to multiple NUMA nodes: ${owner} and ${guestNode}`,
          `${path}.memory_zones`,
          zone,
        );
      }
      zoneOwners.set(zone, guestNode);
    }
    for (const segment of node.pci_segments ?? []) {
      if (segment >= context.segmentCount) yield invalidSegment(segment, `${path}.pci_segments`);
      if (segment === 0 && guestNode !== 0) {
        yield fault(
          `Default PCI segment assigned to non-zero NUMA node ${guestNode}`,
          `${path}.pci_segments`,
          segment,
        );
      }
      const owner = segmentOwners.get(segment);
      if (owner !== undefined) {
        yield fault(
          `PCI segment: ${segment} belongs to multiple NUMA nodes ${owner} and ${guestNode}`,
          `${path}.pci_segments`,
          segment,
        );
      }
      segmentOwners.set(segment, guestNode);
    }
  }
}

/** A node is made of CPUs and memory, or of one device. */
function* shapeFaults({ device_id: device, cpus, memory_zones: zones }: NumaConfig, path: string): Faults {
  if (device !== undefined) {
    if (cpus !== undefined || zones !== undefined) {
      yield numaFault(
        "device_id in numa config is mutually exclusive with cpus and memory_zones",
        `${path}.device_id`,
        device,
      );
    }
    if (device === "") {
      yield numaFault("device_id in numa config cannot be empty", `${path}.device_id`, device);
    }
    return;
  }
  if (cpus === undefined && zones === undefined) {
    yield numaFault("numa config must specify either device_id or cpus/memory_zones", path);
  }
  if (cpus?.length === 0) yield numaFault("cpus list in numa config cannot be empty", `${path}.cpus`, cpus);
  // An empty list of zones beside CPUs is accepted.
  if (cpus === undefined && zones?.length === 0) {
    yield numaFault("memory_zones in numa config cannot be empty", `${path}.memory_zones`, zones);
  }
}

/**
 * Parameters of `--memory` and `--memory-zone`.
 *
 * L0. Source: spec/cli.md §2, spec/schemas.md "MemoryConfig", "MemoryZoneConfig".
 */
import type { MemoryConfig, MemoryZoneConfig } from "@schemas/api/memory.ts";
import { parametersOf } from "./parameter.ts";

const SIZE = "<size>";
const DEFAULT_SIZE_BYTES = 512n << 20n;

export const memoryParameters = parametersOf<MemoryConfig>()({
  size: {
    kind: "size",
    field: "size",
    value: SIZE,
    default: DEFAULT_SIZE_BYTES,
    doc: "Guest memory; 0 with zones",
  },
  mergeable: { kind: "toggle", field: "mergeable", default: false, doc: "Let the host merge equal pages" },
  hotplug_method: {
    kind: "choice",
    field: "hotplug_method",
    choices: { acpi: "Acpi", "virtio-mem": "VirtioMem" },
    default: "Acpi",
    doc: "How memory is added later",
  },
  hotplug_size: { kind: "size", field: "hotplug_size", value: SIZE, doc: "Memory that can be added later" },
  hotplugged_size: {
    kind: "size",
    field: "hotplugged_size",
    value: SIZE,
    doc: "Part of it that is there at boot",
  },
  shared: { kind: "toggle", field: "shared", default: false, doc: "Share memory with other processes" },
  hugepages: { kind: "toggle", field: "hugepages", default: false, doc: "Back memory with huge pages" },
  hugepage_size: { kind: "size", field: "hugepage_size", value: SIZE, doc: "Size of huge pages" },
  prefault: { kind: "toggle", field: "prefault", default: false, doc: "Touch all memory at the start" },
  reserve: { kind: "toggle", field: "reserve", default: false, doc: "Reserve swap space" },
  thp: { kind: "toggle", field: "thp", default: true, doc: "Transparent huge pages" },
  file: { kind: "string", field: null, hidden: true, doc: "Accepted and ignored" },
});

export const memoryZoneParameters = parametersOf<MemoryZoneConfig>()({
  id: {
    kind: "string",
    field: "id",
    value: "<zone_id>",
    missing: "Error parsing --memory-zone: id missing",
    doc: "Zone identifier",
  },
  size: { kind: "size", field: "size", value: SIZE, default: DEFAULT_SIZE_BYTES, doc: "Size of the zone" },
  file: { kind: "string", field: "file", value: "<path>", doc: "Backing file" },
  shared: { kind: "toggle", field: "shared", default: false, doc: "Share memory with other processes" },
  hugepages: { kind: "toggle", field: "hugepages", default: false, doc: "Back memory with huge pages" },
  hugepage_size: { kind: "size", field: "hugepage_size", value: SIZE, doc: "Size of huge pages" },
  host_numa_node: {
    kind: "u32",
    field: "host_numa_node",
    value: "<node_id>",
    doc: "Host node to allocate on",
  },
  hotplug_size: { kind: "size", field: "hotplug_size", value: SIZE, doc: "Memory that can be added later" },
  hotplugged_size: {
    kind: "size",
    field: "hotplugged_size",
    value: SIZE,
    doc: "Part of it that is there at boot",
  },
  prefault: { kind: "toggle", field: "prefault", default: false, doc: "Touch all memory at the start" },
  reserve: { kind: "toggle", field: "reserve", default: false, doc: "Reserve swap space" },
  mergeable: {
    kind: "toggle",
    field: "mergeable",
    doc: "Let the host merge equal pages; as `--memory` says when absent",
  },
});

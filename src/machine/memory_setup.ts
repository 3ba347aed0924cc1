/**
 * Guest RAM of a VM: from the configuration to mapped regions in KVM's slots.
 *
 * L5, main isolate. Source: machine model §1; schemas page "Checked later, when memory/devices are built".
 */
import type { MemoryConfig } from "@schemas/api/memory.ts";
import type { NumaConfig } from "@schemas/api/numa.ts";
import { type MemoryPlan, planMemory, type ZoneRequest } from "@vmm/arch/x86_64/layout.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import type { KvmVm } from "@vmm/hypervisor/kvm/vm.ts";
import { GuestMemory } from "@vmm/memory/guest_memory.ts";
import {
  type BackingOptions,
  checkZoneFile,
  type HostRegion,
  mapRegion,
  unmapRegion,
} from "@vmm/memory/host_memory.ts";
import { MemorySlots } from "./memory_slots.ts";

const PAGE_BYTES = 4096n;
const DEFAULT_HUGEPAGE_BYTES = 2n << 20n;
const MISALIGNED = "Memory size is misaligned with default page size or its hugepage size";
const CONTRADICTION = "Memory configuration is not valid";

/** Zone id of memory that is configured by a plain size. */
const DEFAULT_ZONE = "mem0";

/** Mapped RAM. */
export interface VmMemory {
  readonly plan: MemoryPlan;
  readonly regions: readonly HostRegion[];
  readonly guest: GuestMemory;
  /** KVM's slots behind those of RAM. */
  readonly slots: MemorySlots;
}

function fail(...messages: [string, ...string[]]): never {
  const [root, ...context] = [...messages].reverse();
  throw new ContextError(["Memory manager error", ...context.reverse()], new Error(root));
}

/** Passes what can be had by its numbers. @throws ContextError with the original's text */
export function checkMemory(config: MemoryConfig): void {
  zonesOf(config);
}

/** Memory that is said to be plugged already has to have room, and a method that can plug it at boot. @throws ContextError */
function checkPlugged(
  { hotplug_size: room, hotplugged_size: plugged }: { hotplug_size?: bigint; hotplugged_size?: bigint },
  method: MemoryConfig["hotplug_method"],
): void {
  if (plugged === undefined) return;
  if (room === undefined || plugged > room || method === "Acpi") fail(CONTRADICTION);
}

/** What the configuration asks for, checked. @throws ContextError with the original's text */
function zonesOf(config: MemoryConfig): { zones: ZoneRequest[]; options: Map<string, BackingOptions> } {
  const { zones: userZones, size, hotplug_method: method } = config;
  const options = new Map<string, BackingOptions>();
  if (size !== 0n && userZones !== undefined) fail(CONTRADICTION);
  if (userZones === undefined || userZones.length === 0) {
    if (size === 0n) fail("No memory zones found");
    checkPlugged(config, method);
    if (config.hotplug_size === 0n) fail("Invalid size for resizing. Can be anything except 0");
    options.set(DEFAULT_ZONE, backing(config, size));
    const hotplugSizeBytes = config.hotplug_method === "VirtioMem" && config.hotplug_size !== undefined
      ? Number(config.hotplug_size)
      : undefined;
    return { zones: [{ id: DEFAULT_ZONE, sizeBytes: Number(size), hotplugSizeBytes }], options };
  }
  for (const zone of userZones) {
    if (zone.shared && zone.file !== undefined && zone.host_numa_node !== undefined) {
      fail("Invalid to try applying a NUMA policy to a memory zone that is memory mapped with MAP_SHARED");
    }
    if (zone.hotplug_size !== undefined && method === "Acpi") {
      fail("Invalid hotplug method associated with memory zones resizing capability");
    }
    checkPlugged(zone, method);
  }
  const zones = userZones.map((zone) => {
    const { file } = zone;
    if (file !== undefined) managed(() => checkZoneFile(file));
    if (options.has(zone.id)) fail("Memory zone identifier is not unique");
    options.set(zone.id, {
      ...backing(zone, zone.size),
      thp: config.thp,
      file,
      hostNumaNode: zone.host_numa_node,
    });
    return {
      id: zone.id,
      sizeBytes: Number(zone.size),
      hotplugSizeBytes: zone.hotplug_size === undefined ? undefined : Number(zone.hotplug_size),
    };
  });
  return { zones, options };
}

/** Carries out `step`. @throws ContextError around what it fails with */
function managed<T>(step: () => T): T {
  try {
    return step();
  } catch (cause) {
    throw new ContextError(["Memory manager error"], cause as Error);
  }
}

function backing(
  from: {
    shared: boolean;
    hugepages: boolean;
    hugepage_size?: bigint;
    prefault: boolean;
    reserve: boolean;
    mergeable: boolean;
    thp?: boolean;
  },
  size: bigint,
): BackingOptions {
  const pageSize = from.hugepages ? from.hugepage_size ?? DEFAULT_HUGEPAGE_BYTES : PAGE_BYTES;
  if (pageSize === 0n || size % pageSize !== 0n) {
    fail(MISALIGNED, `${size} bytes are not a multiple of the page size ${pageSize}`);
  }
  return {
    shared: from.shared,
    hugepages: from.hugepages,
    hugepageSizeBytes: from.hugepage_size === undefined ? undefined : Number(from.hugepage_size),
    prefault: from.prefault,
    reserve: from.reserve,
    mergeable: from.mergeable,
    thp: from.thp ?? true,
  };
}

/** Refuses NUMA nodes that contradict each other or the memory there is. @throws ContextError with the original's text */
export function checkNuma(nodes: readonly NumaConfig[], plan: MemoryPlan): void {
  const zones = new Set(plan.ramRegions.map(({ zoneId }) => zoneId));
  const ids = nodes.map((node) => node.guest_numa_id);
  const isValid = new Set(ids).size === ids.length && nodes.every(({ memory_zones, distances = [] }) => {
    const targets = distances.map(({ destination }) => destination);
    return (memory_zones ?? []).every((zone) => zones.has(zone)) &&
      targets.every((target) => ids.includes(target)) && new Set(targets).size === targets.length;
  });
  if (!isValid) throw new ContextError(["Invalid NUMA configuration"], undefined);
}

/** Maps all RAM and gives it to KVM. Nothing stays mapped after a failure. @throws ContextError */
export function setUpMemory(config: MemoryConfig, physBits: number, vm: KvmVm): VmMemory {
  const { zones, options } = zonesOf(config);
  const plan = managed(() =>
    planMemory({
      zones,
      userZones: (config.zones?.length ?? 0) > 0,
      hotplugMethod: config.hotplug_method,
      hotplugSizeBytes: config.hotplug_method === "Acpi" && config.hotplug_size !== undefined
        ? Number(config.hotplug_size)
        : undefined,
      physBits,
    })
  );
  const regions: HostRegion[] = [];
  try {
    plan.ramRegions.forEach((ram, slot) => {
      const region = mapRegion(ram.gpa, ram.sizeBytes, options.get(ram.zoneId)!, ram.zoneOffsetBytes);
      regions.push(region);
      vm.setMemoryRegion(slot, ram.gpa, ram.sizeBytes, region.hostAddress);
    });
  } catch (cause) {
    regions.forEach(unmapRegion);
    throw new ContextError(["Memory manager error"], cause as Error);
  }
  return { plan, regions, guest: new GuestMemory(regions), slots: new MemorySlots(regions.length) };
}

/** Unmaps all RAM; only after every Worker that used it has stopped. */
export function releaseMemory(memory: VmMemory): void {
  memory.regions.forEach(unmapRegion);
}

/** Size and hot-plugged part of the configured memory, in bytes. */
export function configuredMemory(config: MemoryConfig): { total: bigint; hotplugged: bigint } {
  const zones = config.zones ?? [];
  const sum = (values: readonly (bigint | undefined)[]) => values.reduce<bigint>((a, b) => a + (b ?? 0n), 0n);
  const hotplugged = sum([config.hotplugged_size, ...zones.map((zone) => zone.hotplugged_size)]);
  return { total: config.size + sum(zones.map((zone) => zone.size)) + hotplugged, hotplugged };
}

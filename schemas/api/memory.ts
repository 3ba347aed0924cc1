/**
 * Guest memory: one size, or zones.
 *
 * L0. Source: spec/schemas.md "MemoryConfig". All sizes in bytes.
 */
import * as z from "zod";
import { bool, choice, path, struct, text, u32, u64 } from "@schemas/primitives.ts";

/** How memory is added to a running guest. */
export const HotplugMethodSchema = choice("HotplugMethod", ["Acpi", "VirtioMem"]);
export type HotplugMethod = z.infer<typeof HotplugMethodSchema>;

export const MemoryZoneConfigSchema = struct("MemoryZoneConfig", {
  id: text().describe("Zone identifier"),
  size: u64().describe("Size in bytes"),
  file: path().describe("Backing file or directory").optional(),
  shared: bool().default(false),
  hugepages: bool().default(false),
  hugepage_size: u64().describe("Huge page size in bytes").optional(),
  host_numa_node: u32().optional(),
  hotplug_size: u64().describe("Size the zone can grow by, in bytes").optional(),
  hotplugged_size: u64().describe("Size plugged at boot, in bytes").optional(),
  prefault: bool().default(false),
  reserve: bool().describe("Reserve swap space for the mapping").default(false),
  mergeable: bool().default(false),
});
/** A part of guest memory with properties of its own. */
export type MemoryZoneConfig = z.infer<typeof MemoryZoneConfigSchema>;

/** Memory size in bytes unless configured. */
export const DEFAULT_MEMORY_SIZE_BYTES = 512n << 20n;

export const MemoryConfigSchema = struct("MemoryConfig", {
  size: u64().describe("Size in bytes, 0 when zones are given"),
  mergeable: bool().default(false),
  hotplug_method: HotplugMethodSchema.default("Acpi"),
  hotplug_size: u64().describe("Size the memory can grow by, in bytes").optional(),
  hotplugged_size: u64().describe("Size plugged at boot, in bytes").optional(),
  shared: bool().default(false),
  hugepages: bool().default(false),
  hugepage_size: u64().describe("Huge page size in bytes").optional(),
  prefault: bool().default(false),
  reserve: bool().describe("Reserve swap space for the mapping").default(false),
  zones: z.array(MemoryZoneConfigSchema).optional(),
  thp: bool().describe("Transparent huge pages").default(true),
});
/** Guest memory; of size 0 when it is made of zones. */
export type MemoryConfig = z.infer<typeof MemoryConfigSchema>;

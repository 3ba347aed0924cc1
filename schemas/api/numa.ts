/**
 * NUMA nodes shown to the guest.
 *
 * L0. Source: spec/schemas.md "NumaConfig".
 */
import * as z from "zod";
import { struct, text, u16, u32, u8 } from "@schemas/primitives.ts";

export const NumaDistanceSchema = struct("NumaDistance", {
  destination: u32().default(0),
  distance: u8().default(0),
});
export type NumaDistance = z.infer<typeof NumaDistanceSchema>;

export const NumaConfigSchema = struct("NumaConfig", {
  guest_numa_id: u32(),
  cpus: z.array(u32()).optional(),
  distances: z.array(NumaDistanceSchema).optional(),
  memory_zones: z.array(text()).optional(),
  pci_segments: z.array(u16()).optional(),
  device_id: text().describe("Device that forms a node of its own (generic initiator)").optional(),
});
/** A NUMA node of the guest. */
export type NumaConfig = z.infer<typeof NumaConfigSchema>;

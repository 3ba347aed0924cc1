/**
 * What the VMM reports: `vm.info`, `vm.counters`, `vmm.ping`, the answer of `vm.add-*`.
 *
 * L0. Source: spec/schemas.md "Request / response objects"; field order as the original writes it.
 */
import * as z from "zod";
import {
  bool,
  choice,
  i64Index,
  named,
  struct,
  text,
  u32,
  u64,
  u64Index,
  usize,
} from "@schemas/primitives.ts";
import { VmConfigSchema } from "./vm_config.ts";

export const VmStateSchema = choice("VmState", ["Created", "Running", "Shutdown", "Paused", "BreakPoint"]);
/** State of a VM. */
export type VmState = z.infer<typeof VmStateSchema>;

/** Address space a PCI BAR lives in. */
export const PciBarTypeSchema = choice("PciBarType", ["Io", "Mmio32", "Mmio64"]);
export type PciBarType = z.infer<typeof PciBarTypeSchema>;

/** One resource of a device: an object with one key, the kind. */
export const ResourceSchema = named(
  "Resource",
  z.union([
    struct("PioAddressRangeResource", {
      PioAddressRange: struct("PioAddressRange", { base: u64Index(), size: u64Index() }),
    }),
    struct("MmioAddressRangeResource", {
      MmioAddressRange: struct("MmioAddressRange", { base: u64(), size: u64() }),
    }),
    struct("PciBarResource", {
      PciBar: struct("PciBar", {
        index: usize(),
        base: u64(),
        size: u64(),
        type_: PciBarTypeSchema,
        prefetchable: bool(),
      }),
    }),
    struct("LegacyIrqResource", { LegacyIrq: u32() }),
    struct("MsiIrqResource", { MsiIrq: struct("MsiIrq", { ty: text(), base: u32(), size: u32() }) }),
    struct("MacAddressResource", { MacAddress: text() }),
    struct("KvmMemSlotResource", { KvmMemSlot: u32() }),
  ]),
);
export type Resource = z.infer<typeof ResourceSchema>;

/** One node of the device tree. */
export const DeviceNodeSchema = struct("DeviceNode", {
  id: text(),
  resources: z.array(ResourceSchema),
  parent: text().optional(),
  children: z.array(text()),
  pci_bdf: text().describe("`segment:bus:device.function` in hexadecimal").optional(),
});
/** One node of the device tree. */
export type DeviceNode = z.infer<typeof DeviceNodeSchema>;

export const VmInfoSchema = struct("VmInfo", {
  config: VmConfigSchema,
  state: VmStateSchema,
  memory_actual_size: u64().describe("Bytes the guest has now"),
  device_tree: z.record(z.string(), DeviceNodeSchema).optional(),
});
/** State, configuration and devices of a VM. */
export type VmInfo = z.infer<typeof VmInfoSchema>;

/** Counters by device id, then by counter name. */
export const VmCountersSchema = named("VmCounters", z.record(z.string(), z.record(z.string(), u64())));
/** Counters by device id, then by counter name. */
export type VmCounters = z.infer<typeof VmCountersSchema>;

export const PciDeviceInfoSchema = struct("PciDeviceInfo", {
  id: text(),
  bdf: text().describe("`segment:bus:device.function` in hexadecimal"),
});
/** Where a device is: its id and its PCI address. */
export type PciDeviceInfo = z.infer<typeof PciDeviceInfoSchema>;

export const VmmPingResponseSchema = struct("VmmPingResponse", {
  build_version: text(),
  version: text(),
  pid: i64Index(),
  features: z.array(text()),
});
/** Who answers: version, process id, features. */
export type VmmPingResponse = z.infer<typeof VmmPingResponseSchema>;

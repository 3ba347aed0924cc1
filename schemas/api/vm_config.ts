/**
 * The configuration of one VM: body of `vm.create`, part of `vm.info`, `config.json` of a snapshot.
 *
 * L0. Source: spec/schemas.md "VmConfig".
 */
import * as z from "zod";
import { bool, struct } from "@schemas/primitives.ts";
import {
  DeviceConfigSchema,
  IvshmemConfigSchema,
  TpmConfigSchema,
  UserDeviceConfigSchema,
} from "./assigned_device.ts";
import {
  ConsoleConfigSchema,
  DebugConsoleConfigSchema,
  DEFAULT_DEBUG_CONSOLE_IOBASE,
  SerialConfigSchema,
} from "./console.ts";
import { CpusConfigSchema, DEFAULT_MAX_PHYS_BITS } from "./cpus.ts";
import { DiskConfigSchema } from "./disk.ts";
import { DEFAULT_MEMORY_SIZE_BYTES, MemoryConfigSchema } from "./memory.ts";
import { NetConfigSchema } from "./net.ts";
import { NumaConfigSchema } from "./numa.ts";
import { PayloadConfigSchema } from "./payload.ts";
import { LandlockConfigSchema, PciSegmentConfigSchema, PlatformConfigSchema } from "./platform.ts";
import { RateLimiterGroupConfigSchema } from "./rate_limiter.ts";
import {
  BalloonConfigSchema,
  DEFAULT_RNG_SOURCE,
  FsConfigSchema,
  GenericVhostUserConfigSchema,
  PmemConfigSchema,
  RngConfigSchema,
  RtcConfigSchema,
  VdpaConfigSchema,
  VsockConfigSchema,
} from "./virtio_devices.ts";

export const VmConfigSchema = struct("VmConfig", {
  cpus: CpusConfigSchema.default(() => ({
    boot_vcpus: 1,
    max_vcpus: 1,
    kvm_hyperv: false,
    max_phys_bits: DEFAULT_MAX_PHYS_BITS,
    features: { amx: false },
    nested: true,
    core_scheduling: "Vm" as const,
    profile: "Host" as const,
  })),
  memory: MemoryConfigSchema.default(() => ({
    size: DEFAULT_MEMORY_SIZE_BYTES,
    mergeable: false,
    hotplug_method: "Acpi" as const,
    shared: false,
    hugepages: false,
    prefault: false,
    reserve: false,
    thp: true,
  })),
  payload: PayloadConfigSchema.optional(),
  rate_limit_groups: z.array(RateLimiterGroupConfigSchema).optional(),
  disks: z.array(DiskConfigSchema).optional(),
  net: z.array(NetConfigSchema).optional(),
  rng: RngConfigSchema.default(() => ({ iommu: false, pci_segment: 0, src: DEFAULT_RNG_SOURCE })),
  balloon: BalloonConfigSchema.optional(),
  generic_vhost_user: z.array(GenericVhostUserConfigSchema).optional(),
  fs: z.array(FsConfigSchema).optional(),
  pmem: z.array(PmemConfigSchema).optional(),
  serial: SerialConfigSchema.default(() => ({ mode: "Null" as const })),
  console: ConsoleConfigSchema.default(() => ({ mode: "Tty" as const, iommu: false, pci_segment: 0 })),
  debug_console: DebugConsoleConfigSchema.default(() => ({
    mode: "Off" as const,
    iobase: DEFAULT_DEBUG_CONSOLE_IOBASE,
  })),
  devices: z.array(DeviceConfigSchema).optional(),
  user_devices: z.array(UserDeviceConfigSchema).optional(),
  vdpa: z.array(VdpaConfigSchema).optional(),
  vsock: VsockConfigSchema.optional(),
  pvpanic: bool().describe("Panic notification device").default(false),
  iommu: bool().describe("Virtual IOMMU; turned on by any device that needs it").default(false),
  numa: z.array(NumaConfigSchema).optional(),
  watchdog: bool().describe("Watchdog device").default(false),
  rtc: RtcConfigSchema.optional(),
  gdb: bool().describe("Debugger attached").default(false),
  pci_segments: z.array(PciSegmentConfigSchema).optional(),
  platform: PlatformConfigSchema.optional(),
  tpm: TpmConfigSchema.optional(),
  landlock_enable: bool().describe("Restrict the process to the configured files").default(false),
  landlock_rules: z.array(LandlockConfigSchema).optional(),
  ivshmem: IvshmemConfigSchema.optional(),
}, {
  requiredInSequence: [
    "payload",
    "rate_limit_groups",
    "disks",
    "net",
    "balloon",
    "generic_vhost_user",
    "fs",
    "pmem",
    "devices",
    "user_devices",
    "vdpa",
    "vsock",
    "numa",
    "pci_segments",
    "platform",
    "tpm",
    "landlock_rules",
    "ivshmem",
  ],
});
/** The configuration of a VM, with all defaults filled in. */
export type VmConfig = z.infer<typeof VmConfigSchema>;

/**
 * What a valid configuration becomes before a VM is made of it.
 *
 * L0, pure. Source: spec/schemas.md "Validation rules" 1 and the `iommu` row of VmConfig.
 */
import type { PayloadConfig } from "./api/payload.ts";
import type { VmConfig } from "./api/vm_config.ts";

/**
 * `config` with the consequences of its own settings: firmware drops command line and initramfs, and a device
 * behind the IOMMU or a list of IOMMU segments turns the IOMMU on. Returns a new object; never throws.
 */
export function normalizeVmConfig(config: VmConfig): VmConfig {
  const normalized = { ...config, iommu: config.iommu || needsIommu(config) };
  if (config.payload !== undefined) normalized.payload = bootablePayload(config.payload);
  return normalized;
}

function bootablePayload(payload: PayloadConfig): PayloadConfig {
  if (payload.firmware === undefined) return payload;
  const { cmdline: _cmdline, initramfs: _initramfs, ...rest } = payload;
  return rest;
}

function needsIommu(config: VmConfig): boolean {
  if (config.platform?.iommu_segments !== undefined) return true;
  const single = [config.rng, config.rtc, config.balloon, config.console, config.vsock];
  const lists = [config.disks, config.net, config.pmem, config.vdpa, config.devices];
  return single.some((device) => device?.iommu) || lists.some((list) => list?.some((device) => device.iommu));
}

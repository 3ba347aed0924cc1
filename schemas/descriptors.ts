/**
 * Forgetting descriptor numbers that came in JSON: they mean nothing in this process.
 *
 * L0, pure. Source: spec/rest-api.md §1.3.
 */
import type { DeviceConfig } from "./api/assigned_device.ts";
import type { NetConfig } from "./api/net.ts";
import type { VmConfig } from "./api/vm_config.ts";

/** `net` without `fds`. Never throws. */
export function withoutNetDescriptors(net: NetConfig): NetConfig {
  const { fds: _, ...rest } = net;
  return rest;
}

/** `device` without `fd`. Never throws. */
export function withoutDeviceDescriptor(device: DeviceConfig): DeviceConfig {
  const { fd: _, ...rest } = device;
  return rest;
}

/** `config` without the descriptors of network and VFIO devices, as `vm.create` stores it. Never throws. */
export function withoutDescriptors(config: VmConfig): VmConfig {
  return {
    ...config,
    ...(config.net && { net: config.net.map(withoutNetDescriptors) }),
    ...(config.devices && { devices: config.devices.map(withoutDeviceDescriptor) }),
  };
}

/** Ids of the devices that come with descriptor numbers; undefined for one without an id. Never throws. */
export function descriptorHolders(
  { net = [], devices = [] }: Pick<VmConfig, "net" | "devices">,
): (string | undefined)[] {
  const holders = [
    ...net.filter(({ fds }) => fds !== undefined),
    ...devices.filter(({ fd }) => fd !== undefined),
  ];
  return holders.map(({ id }) => id);
}

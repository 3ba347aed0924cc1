/**
 * Where each kind of hot-pluggable device stands in a configuration.
 *
 * L6, main isolate, pure. Source: spec/schemas.md "VmConfig", spec/lifecycle.md §4, §5.
 */
import type { VmConfig } from "@schemas/api/vm_config.ts";
import type { HotplugKind } from "@vmm/machine/vm_port.ts";

/** List of the configuration that holds devices of a kind. There is one vsock at most, which has a field of its own. */
const LISTS = {
  "device": "devices",
  "user-device": "user_devices",
  "disk": "disks",
  "fs": "fs",
  "pmem": "pmem",
  "net": "net",
  "vdpa": "vdpa",
  "generic-vhost-user": "generic_vhost_user",
} as const satisfies Partial<Record<HotplugKind, keyof VmConfig>>;

/** What every device's configuration may have. */
interface Identified {
  readonly id?: string;
}

/** `config` with `device` added at the end of its kind's list. */
export function withDevice(config: VmConfig, kind: HotplugKind, device: unknown): VmConfig {
  if (kind === "vsock") return { ...config, vsock: device as VmConfig["vsock"] };
  const list = LISTS[kind];
  return { ...config, [list]: [...(config[list] ?? []), device] };
}

/** `config` without the device called `id`, or undefined if there is none. */
export function withoutDevice(config: VmConfig, id: string): VmConfig | undefined {
  if (config.vsock?.id === id) return { ...config, vsock: undefined };
  for (const list of Object.values(LISTS)) {
    const devices: readonly Identified[] = config[list] ?? [];
    if (devices.some((device) => device.id === id)) {
      return { ...config, [list]: devices.filter((device) => device.id !== id) };
    }
  }
  return undefined;
}

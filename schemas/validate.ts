/**
 * The rules of a VM configuration, in the original's order and words.
 *
 * L0, pure, main isolate: run when the command line starts a VM, at boot, and at every `vm.add-*` with the new
 * device added. Source: spec/schemas.md "Validation rules", order as observed on the original.
 */
import type { ConfigError } from "@vmm/errors/config_error.ts";
import type { VmConfig } from "./api/vm_config.ts";
import { consolePathFaults } from "./rules/console.ts";
import { type ConfigHost, type RuleContext, ruleContext } from "./rules/context.ts";
import { cpuCountFaults, topologyFaults } from "./rules/cpus.ts";
import {
  deviceFaults,
  fsFaults,
  genericVhostUserFaults,
  ivshmemFaults,
  userDeviceFaults,
  vsockCidFaults,
} from "./rules/devices.ts";
import { diskFaults, rateLimitGroupFaults } from "./rules/disk.ts";
import { fault, type Faults, firstError } from "./rules/fault.ts";
import { balloonFaults, hugePageFaults, mergeableFaults } from "./rules/memory.ts";
import { netFaults } from "./rules/net.ts";
import { numaFaults } from "./rules/numa.ts";
import { payloadFaults } from "./rules/payload.ts";
import { pciFaults, type PciPlacement } from "./rules/pci.ts";
import { landlockFaults, pciSegmentFaults, platformFaults } from "./rules/platform.ts";
import { sharedMemoryFaults } from "./rules/queues.ts";

/**
 * The first rule `config` breaks, or undefined when it breaks none. Does not change `config`; see
 * `normalizeVmConfig()` for what a valid one becomes. Never throws.
 */
export function validateVmConfig(config: VmConfig, host: ConfigHost): ConfigError | undefined {
  return firstError(vmConfigFaults(ruleContext(config, host)));
}

/**
 * The first console that needs a path and has none, or undefined. `vm.create` checks this much, because it opens
 * the consoles; a virtio console of mode Socket is refused there with or without a path. Never throws.
 */
export function validateConsoles(config: VmConfig): ConfigError | undefined {
  const { console } = config;
  const opened = console.mode === "Socket"
    ? { ...config, console: { ...console, mode: "Off" as const } }
    : config;
  return firstError(consolePathFaults(opened));
}

function* vmConfigFaults(context: RuleContext): Faults {
  const { config, identifiers } = context;
  yield* payloadFaults(config.payload);
  yield* consolePathFaults(config);
  yield* cpuCountFaults(config.cpus);
  for (const [index, group] of (config.rate_limit_groups ?? []).entries()) {
    const path = `rate_limit_groups[${index}]`;
    yield* rateLimitGroupFaults(group, path);
    yield* identifiers.take(group.id, `${path}.id`);
  }
  yield* each("disks", config.disks, diskFaults, context);
  yield* each("net", config.net, netFaults, context);
  if (config.fs?.length) yield* sharedMemoryFaults("fs", context);
  yield* each("fs", config.fs, fsFaults, context);
  if (config.generic_vhost_user?.length) yield* sharedMemoryFaults("generic_vhost_user", context);
  yield* each("generic_vhost_user", config.generic_vhost_user, genericVhostUserFaults, context);
  yield* each("pmem", config.pmem, pciFaults, context);
  yield* one("rng", config.rng, pciFaults, context);
  yield* one("rtc", config.rtc, pciFaults, context);
  yield* one("console", config.console, pciFaults, context);
  yield* topologyFaults(config.cpus);
  yield* hugePageFaults(config.memory, "memory");
  yield* mergeableFaults(config.memory, "memory");
  for (const [index, zone] of (config.memory.zones ?? []).entries()) {
    const path = `memory.zones[${index}]`;
    yield* mergeableFaults(zone, path);
    yield* hugePageFaults(zone, path);
  }
  yield* userDevices(context);
  yield* each("vdpa", config.vdpa, pciFaults, context);
  if (config.vsock !== undefined) yield* vsockCidFaults(config.vsock, "vsock");
  yield* one("balloon", config.balloon, pciFaults, context);
  yield* balloonFaults(config);
  yield* devices(context);
  yield* one("vsock", config.vsock, pciFaults, context);
  yield* numaFaults(config.numa ?? [], context);
  for (const [index, zone] of (config.memory.zones ?? []).entries()) {
    const path = `memory.zones[${index}]`;
    yield* identifiers.take(zone.id, `${path}.id`);
  }
  for (const [index, segment] of (config.pci_segments ?? []).entries()) {
    yield* pciSegmentFaults(segment, `pci_segments[${index}]`, context);
  }
  if (config.platform !== undefined) yield* platformFaults(config.platform);
  for (const [index, rule] of (config.landlock_rules ?? []).entries()) {
    yield* landlockFaults(rule, `landlock_rules[${index}]`, context);
  }
  yield* one("ivshmem", config.ivshmem, ivshmemFaults, context);
}

type DeviceRules<D> = (device: D, path: string, context: RuleContext) => Faults;

/** A device's own rules, then its identifier. */
function* one<D extends PciPlacement>(
  path: string,
  device: D | undefined,
  rules: DeviceRules<D>,
  context: RuleContext,
): Faults {
  if (device === undefined) return;
  yield* rules(device, path, context);
  yield* context.identifiers.take(device.id, `${path}.id`);
}

function* each<D extends PciPlacement>(
  name: string,
  list: readonly D[] | undefined,
  rules: DeviceRules<D>,
  context: RuleContext,
): Faults {
  for (const [index, device] of (list ?? []).entries()) {
    yield* one(`${name}[${index}]`, device, rules, context);
  }
}

function* userDevices(context: RuleContext): Faults {
  const list = context.config.user_devices;
  if (list?.length && !context.sharedMemory) {
    yield fault("Using user devices requires using shared memory or huge pages", "user_devices");
  }
  yield* each("user_devices", list, userDeviceFaults, context);
}

function* devices(context: RuleContext): Faults {
  const paths = new Set<string>();
  for (const [index, device] of (context.config.devices ?? []).entries()) {
    const path = `devices[${index}]`;
    if (device.path !== undefined) {
      if (paths.has(device.path)) {
        yield fault(`Duplicated device path: ${device.path}`, `${path}.path`, device.path, 409);
      }
      paths.add(device.path);
    }
    yield* one(path, device, deviceFaults, context);
  }
}

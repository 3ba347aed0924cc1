/**
 * The configuration a command line describes.
 *
 * L6, main isolate; no zod unless the configuration is a file. Loaded only when there is something to boot or to restore.
 * Source: spec/cli.md §2, §3; texts as the original prints them.
 */
import type { RestoreConfig } from "@schemas/api/migration.ts";
import type { PayloadConfig } from "@schemas/api/payload.ts";
import type { VmConfig } from "@schemas/api/vm_config.ts";
import { validateVmConfig } from "@schemas/validate.ts";
import { hostFiles, readFile } from "@vmm/backends/host_path.ts";
import { CLI_VALIDATION_CONTEXT, ConfigError } from "@vmm/errors/config_error.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import {
  readBalloon,
  readDevice,
  readDisk,
  readFs,
  readGenericVhostUser,
  readIvshmem,
  readNet,
  readPmem,
  readRateLimitGroup,
  readRng,
  readRtc,
  readTpm,
  readUserDevice,
  readVdpa,
  readVsock,
} from "./device_options.ts";
import { type OptionName, optionRow } from "./options.ts";
import {
  readConsole,
  readCpus,
  readDebugConsole,
  readFwCfg,
  readLandlockRule,
  readMemory,
  readNuma,
  readPciSegment,
  readPlatform,
  readRestore,
  readSerial,
} from "./vm_options.ts";
import { type OptionValues, single } from "./vmm_options.ts";

function payloadOf(values: OptionValues): PayloadConfig {
  const fwCfg = single(values, "fw-cfg-config");
  const payload: PayloadConfig = {};
  for (const name of ["firmware", "kernel", "cmdline", "initramfs"] as const) {
    const text = single(values, name);
    if (text !== undefined) payload[name] = text;
  }
  if (fwCfg !== undefined) payload.fw_cfg_config = readFwCfg(fwCfg);
  return payload;
}

/** The configuration of the options, not validated. Options are read in the original's order. */
function readVm(values: OptionValues): VmConfig {
  const text = (name: OptionName) => single(values, name) ?? optionRow(name)?.default ?? "";
  const optional = <T>(name: OptionName, read: (text: string) => T): T | undefined =>
    values.has(name) ? read(text(name)) : undefined;
  const list = <T>(name: OptionName, read: (text: string) => T): T[] | undefined =>
    values.get(name)?.map(read);
  const config: VmConfig = {
    rate_limit_groups: list("rate-limit-group", readRateLimitGroup),
    disks: list("disk", readDisk),
    payload: payloadOf(values),
    net: list("net", readNet),
    rng: readRng(text("rng")),
    rtc: optional("rtc", readRtc),
    balloon: optional("balloon", readBalloon),
    fs: list("fs", readFs),
    generic_vhost_user: list("generic-vhost-user", readGenericVhostUser),
    pmem: list("pmem", readPmem),
    console: readConsole(text("console")),
    serial: readSerial(text("serial")),
    debug_console: readDebugConsole(text("debug-console")),
    devices: list("device", readDevice),
    user_devices: list("user-device", readUserDevice),
    vdpa: list("vdpa", readVdpa),
    vsock: optional("vsock", readVsock),
    pci_segments: list("pci-segment", readPciSegment),
    platform: optional("platform", readPlatform),
    numa: list("numa", readNuma),
    tpm: optional("tpm", readTpm),
    landlock_rules: list("landlock-rules", readLandlockRule),
    ivshmem: optional("ivshmem", readIvshmem),
    cpus: readCpus(text("cpus")),
    memory: readMemory(text("memory"), values.get("memory-zone") ?? []),
    pvpanic: values.has("pvpanic"),
    watchdog: values.has("watchdog"),
    landlock_enable: values.has("landlock"),
    gdb: values.has("gdb"),
    iommu: false,
  };
  for (const name in config) {
    if (config[name as keyof VmConfig] === undefined) delete config[name as keyof VmConfig];
  }
  return config;
}

/** The configuration in the JSON file at `path`. @throws ContextError that names the file */
async function readConfigFile(path: string, gdb: boolean): Promise<VmConfig> {
  const context = `Cannot read VM configuration "${path}"`;
  let bytes: Uint8Array;
  try {
    bytes = readFile(path);
  } catch (error) {
    // Deno adds the call and the path, which the context has.
    const reason = (error as Error).message.replace(/: readfile '.*'$/s, "");
    throw new ContextError([context], new Error(reason));
  }
  const [{ readJson }, { VmConfigSchema }, { withoutDescriptors }] = await Promise.all([
    import("@schemas/json/reader.ts"),
    import("@schemas/api/vm_config.ts"),
    import("@schemas/descriptors.ts"),
  ]);
  const result = readJson(VmConfigSchema, bytes);
  if (!result.ok) {
    const { message, fieldPath } = result;
    const place = fieldPath === "" ? "" : ` (${fieldPath})`;
    throw new ContextError([context, "Failed to deserialize JSON"], message + place);
  }
  const config = withoutDescriptors(result.value);
  return gdb ? { ...config, gdb } : config;
}

/**
 * The VM the command line describes, validated; descriptor numbers are kept.
 * @throws ContextError or ConfigError, with a chain that begins "Error parsing config"
 */
export async function vmConfigOf(values: OptionValues): Promise<VmConfig> {
  const [parsing] = CLI_VALIDATION_CONTEXT;
  const file = single(values, "config");
  let config: VmConfig;
  try {
    config = file === undefined ? readVm(values) : await readConfigFile(file, values.has("gdb"));
  } catch (error) {
    throw new ContextError([parsing], error);
  }
  const fault = validateVmConfig(config, hostFiles);
  if (fault !== undefined) {
    const { messages, fieldPath, value, status } = fault;
    throw new ConfigError({ messages, fieldPath, value, status, context: CLI_VALIDATION_CONTEXT });
  }
  return config;
}

/** The snapshot the command line names. @throws ContextError, with a chain that begins "Error parsing restore" */
export function restoreConfigOf(text: string): RestoreConfig {
  try {
    return readRestore(text);
  } catch (error) {
    throw new ContextError(["Error parsing restore"], error);
  }
}

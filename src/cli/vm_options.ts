/**
 * Values of the options that describe the machine itself: CPUs, memory, consoles, platform, payload.
 *
 * L6, main isolate. Source: spec/cli.md §2, spec/observed.md "Command line values"; texts as the original prints them.
 */
import type { ConsoleConfig, ConsoleMode, DebugConsoleConfig, SerialConfig } from "@schemas/api/console.ts";
import type { CpusConfig, CpuTopology } from "@schemas/api/cpus.ts";
import type { MemoryConfig, MemoryZoneConfig } from "@schemas/api/memory.ts";
import type { RestoreConfig } from "@schemas/api/migration.ts";
import type { NumaConfig } from "@schemas/api/numa.ts";
import type { FwCfgConfig, FwCfgItem } from "@schemas/api/payload.ts";
import type { LandlockConfig, PciSegmentConfig, PlatformConfig } from "@schemas/api/platform.ts";
import {
  CONSOLE_MODES,
  consoleParameters,
  debugConsoleParameters,
  serialParameters,
} from "@schemas/cli/console.ts";
import { cpusParameters } from "@schemas/cli/cpus.ts";
import { memoryParameters, memoryZoneParameters } from "@schemas/cli/memory.ts";
import { restoreParameters } from "@schemas/cli/migration.ts";
import type { ParameterTable } from "@schemas/cli/parameter.ts";
import { fwCfgItemParameters, fwCfgParameters } from "@schemas/cli/payload.ts";
import {
  landlockRulesParameters,
  numaParameters,
  pciSegmentParameters,
  platformParameters,
} from "@schemas/cli/platform.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import type { OptionReader } from "./device_options.ts";
import { OptionError } from "./option_error.ts";
import { readHex16, readStrings, readUnsigned, withoutQuotes } from "./option_parser.ts";
import { labelled, readOption, type SpecialReader } from "./option_reader.ts";

const MAX_U16 = 0xffff;

function readTopology(raw: string): CpuTopology | undefined {
  const parts = withoutQuotes(raw).split(":").map((part) => readUnsigned(part, MAX_U16));
  if (parts.length !== 4 || parts.includes(undefined)) return undefined;
  const [threads_per_core, cores_per_die, dies_per_package, packages] = parts as number[];
  return { threads_per_core, cores_per_die, dies_per_package, packages };
}

function readCpuFeatures(raw: string): CpusConfig["features"] | undefined {
  for (const feature of readStrings(raw) ?? [raw]) {
    if (feature !== "amx") throw OptionError.rule(`Invalid feature in --cpus features list: ${feature}`);
  }
  return { amx: true };
}

export const readCpus: OptionReader<CpusConfig> = (text) =>
  labelled("Error parsing --cpus", () => {
    const fields = readOption(cpusParameters, text, {
      special: { topology: readTopology, features: readCpuFeatures },
    })
      .fields as Omit<CpusConfig, "max_vcpus" | "features"> & Partial<CpusConfig>;
    return {
      ...fields,
      max_vcpus: fields.max_vcpus ?? fields.boot_vcpus,
      features: fields.features ?? { amx: false },
    };
  });

/** `--memory` with its zones. A zone that does not say whether it is mergeable follows the rest. */
export function readMemory(text: string, zones: readonly string[]): MemoryConfig {
  const memory = labelled(
    "Error parsing --memory",
    () => readOption(memoryParameters, text).fields as MemoryConfig,
  );
  if (zones.length === 0) return memory;
  return { ...memory, zones: zones.map((zone) => readMemoryZone(zone, memory.mergeable)) };
}

function readMemoryZone(text: string, mergeable: boolean): MemoryZoneConfig {
  return labelled("Error parsing --memory-zone", () => ({
    mergeable,
    ...readOption(memoryZoneParameters, text).fields as Omit<MemoryZoneConfig, "mergeable">,
  }));
}

/** The fields a mode leaves: only the path it uses. */
function withMode(
  text: string,
  table: ParameterTable,
  special: Readonly<Record<string, SpecialReader>> = {},
): Record<string, unknown> {
  let mode: ConsoleMode | undefined;
  const { fields } = readOption(table, text, {
    special,
    check: (given) => {
      const selected = Object.keys(CONSOLE_MODES).find((key) => given.has(key));
      if (selected === undefined) {
        throw OptionError.rule("Error parsing --console: invalid console mode given");
      }
      mode = CONSOLE_MODES[selected];
    },
  });
  const { file, socket, ...rest } = fields;
  return {
    ...(mode === "File" && file !== undefined && { file }),
    mode,
    ...(mode === "Socket" && socket !== undefined && { socket }),
    ...rest,
  };
}

export const readConsole: OptionReader<ConsoleConfig> = (text) =>
  labelled("Error parsing --console", () => withMode(text, consoleParameters) as ConsoleConfig);

export const readSerial: OptionReader<SerialConfig> = (text) =>
  labelled("Error parsing --serial", () => withMode(text, serialParameters) as SerialConfig);

/** A fault the original finds while reading and reports as one of the whole configuration. */
function configurationFault(message: string): ContextError {
  return new ContextError(["Error validating configuration"], OptionError.rule(message));
}

function readIoBase(raw: string): number {
  const port = readHex16(raw);
  if (port !== undefined) return port;
  throw configurationFault(
    `The IO port was not properly provided in hex or a \`0x\` prefix is missing: ${withoutQuotes(raw)}`,
  );
}

export const readDebugConsole: OptionReader<DebugConsoleConfig> = (text) =>
  labelled("Error parsing --console", () => {
    const config = withMode(text, debugConsoleParameters, { iobase: readIoBase }) as DebugConsoleConfig;
    if (config.mode === "File" && config.file === undefined) {
      throw configurationFault("Path missing when using file console mode");
    }
    return config;
  });

export const readPlatform: OptionReader<PlatformConfig> = (text) =>
  labelled("Error parsing --platform", () => {
    const fields = readOption(platformParameters, text).fields as
      & Omit<PlatformConfig, "iommufd">
      & Partial<PlatformConfig>;
    return { ...fields, iommufd: fields.iommufd ?? fields.iommufd_fd !== undefined };
  });

export const readPciSegment: OptionReader<PciSegmentConfig> = (text) =>
  labelled(
    "Error parsing --pci-segment",
    () => readOption(pciSegmentParameters, text).fields as PciSegmentConfig,
  );

export const readNuma: OptionReader<NumaConfig> = (text) =>
  labelled("Error parsing --numa", () => {
    const { fields } = readOption(numaParameters, text);
    if (fields.guest_numa_id === undefined) {
      throw OptionError.invalidValue("guest_numa_id is required for all NUMA nodes");
    }
    if (fields.device_id !== undefined && (fields.cpus !== undefined || fields.memory_zones !== undefined)) {
      throw OptionError.invalidValue("device_id in numa config cannot be used with cpus or memory zones");
    }
    return fields as NumaConfig;
  });

const MAX_ACCESS_LENGTH = 2;

export const readLandlockRule: OptionReader<LandlockConfig> = (text) =>
  labelled("Error parsing --landlock-rules", () => {
    const rule = readOption(landlockRulesParameters, text).fields as LandlockConfig;
    if (rule.access.length > MAX_ACCESS_LENGTH) throw OptionError.invalidValue(rule.access);
    return rule;
  });

/** `[name=n,file=f:name=m,string=s]`. */
function readFwCfgItems(raw: string): { item_list: FwCfgItem[] } | undefined {
  const text = withoutQuotes(raw);
  if (!text.startsWith("[") || !text.endsWith("]")) return undefined;
  try {
    const item_list = text.slice(1, -1).split(":").map((item) =>
      readOption(fwCfgItemParameters, item).fields as FwCfgItem
    );
    return item_list.every(({ name }) => name !== undefined) ? { item_list } : undefined;
  } catch (error) {
    if (error instanceof OptionError) return undefined;
    throw error;
  }
}

export const readFwCfg: OptionReader<FwCfgConfig> = (text) =>
  labelled(
    "Error parsing --fw-cfg-config items",
    () => readOption(fwCfgParameters, text, { special: { items: readFwCfgItems } }).fields as FwCfgConfig,
  );

export const readRestore: OptionReader<RestoreConfig> = (text) =>
  labelled("Error parsing --restore", () => {
    const fields = readOption(restoreParameters, text).fields as
      & Omit<RestoreConfig, "zone_updates" | "net_fds">
      & Partial<RestoreConfig>;
    return {
      ...fields,
      ...(fields.net_fds && {
        net_fds: fields.net_fds.map(({ id, fds }) => ({ id, num_fds: fds?.length ?? 0, fds })),
      }),
      zone_updates: fields.zone_updates ?? [],
    };
  });

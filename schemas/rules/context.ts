/**
 * What rules look at beside the structure they check.
 *
 * L0, pure.
 */
import type { VmConfig } from "@schemas/api/vm_config.ts";
import { Identifiers } from "./identifiers.ts";

/** The few facts about host files that rules depend on. Implementations never throw. */
export interface ConfigHost {
  /** True when something is at `path`. */
  pathExists(path: string): boolean;
  /** Size in bytes of the file at `path`, undefined when it cannot be told. */
  fileSizeBytes(path: string): bigint | undefined;
}

/** One validation run. */
export interface RuleContext {
  readonly config: VmConfig;
  readonly host: ConfigHost;
  readonly identifiers: Identifiers;
  readonly segmentCount: number;
  readonly sharedMemory: boolean;
}

/** PCI segments unless configured. */
const DEFAULT_SEGMENT_COUNT = 1;

/** A fresh context for `config`. */
export function ruleContext(config: VmConfig, host: ConfigHost): RuleContext {
  return {
    config,
    host,
    identifiers: new Identifiers(),
    segmentCount: config.platform?.num_pci_segments ?? DEFAULT_SEGMENT_COUNT,
    sharedMemory: isSharedMemory(config),
  };
}

/** True when another process can map all guest memory. */
function isSharedMemory({ memory }: VmConfig): boolean {
  if (memory.shared || memory.hugepages) return true;
  if (memory.size !== 0n || memory.zones === undefined) return false;
  return memory.zones.every((zone) => zone.shared || zone.hugepages);
}

/**
 * Rules about what is booted.
 *
 * L0, pure. Source: spec/schemas.md rule 1.
 */
import type { PayloadConfig } from "@schemas/api/payload.ts";
import { fault, type Faults } from "./fault.ts";

const payloadFault = (message: string, path: string, value?: unknown) =>
  fault(["Payload configuration is not bootable", message], path, value);

/** Faults of `payload`, which must name firmware or a kernel. */
export function* payloadFaults(payload: PayloadConfig | undefined): Faults {
  if (payload?.firmware === undefined && payload?.kernel === undefined) {
    yield payloadFault("No bootitem provided: neither firmware nor kernel", "payload");
    return;
  }
  if (payload.firmware !== undefined && payload.kernel !== undefined) {
    yield payloadFault(
      "Specifying a kernel is not supported when a firmware is provided",
      "payload.kernel",
      payload.kernel,
    );
  }
  yield* fwCfgFaults(payload);
}

function* fwCfgFaults(payload: PayloadConfig): Faults {
  const fwCfg = payload.fw_cfg_config;
  if (fwCfg === undefined) return;
  // With firmware, command line and initramfs are dropped before this is looked at.
  const dropped = payload.firmware !== undefined;
  const present = {
    kernel: payload.kernel !== undefined,
    cmdline: payload.cmdline !== undefined && !dropped,
    initramfs: payload.initramfs !== undefined && !dropped,
  };
  for (const name of ["kernel", "cmdline", "initramfs"] as const) {
    if (fwCfg[name] && !present[name]) {
      yield payloadFault(`Error --fw-cfg-config: missing --${name}`, `payload.fw_cfg_config.${name}`, true);
    }
  }
  for (const [index, item] of (fwCfg.items?.item_list ?? []).entries()) {
    if ((item.file === undefined) === (item.string === undefined)) {
      yield payloadFault(
        `Error --fw-cfg-config: invalid item '${item.name}' (exactly one of 'file' or 'string' is required)`,
        `payload.fw_cfg_config.items.item_list[${index}]`,
        item.name,
      );
    }
  }
}

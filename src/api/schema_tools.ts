/**
 * The control loop's tools, made of the schemas.
 *
 * L6, main isolate; imported when the first configuration arrives, because it loads zod.
 */
import { VmConfigSchema } from "@schemas/api/vm_config.ts";
import { VmInfoSchema } from "@schemas/api/vm_info.ts";
import { writeJson } from "@schemas/json/writer.ts";
import { normalizeVmConfig } from "@schemas/normalize.ts";
import type { ConfigHost } from "@schemas/rules/context.ts";
import { validateConsoles, validateVmConfig } from "@schemas/validate.ts";
import { configWarnings } from "@schemas/warnings.ts";
import { validateReceiveMigration, validateSendMigration } from "@schemas/validate_requests.ts";
import { log } from "@vmm/log/logger.ts";
import type * as z from "zod";
import type { ConfigTools } from "./config_tools.ts";

const DeviceTreeSchema = VmInfoSchema.shape.device_tree.unwrap();
type DeviceTree = z.infer<typeof DeviceTreeSchema>;

function throwIf(error: Error | undefined): void {
  if (error !== undefined) throw error;
}

/** Makes the tools. `host` answers the few questions about files that validation asks. */
export function makeConfigTools(host: ConfigHost): ConfigTools {
  return {
    configText: (config) => writeJson(VmConfigSchema, config),
    deviceTreeText: (tree) => writeJson(DeviceTreeSchema, tree as DeviceTree),
    validate(config) {
      throwIf(validateVmConfig(config, host));
      for (const warning of configWarnings(config)) log.warn(warning);
      return normalizeVmConfig(config);
    },
    checkConsoles: (config) => throwIf(validateConsoles(config)),
    checkSendMigration: (data) => throwIf(validateSendMigration(data)),
    checkReceiveMigration: (data) => throwIf(validateReceiveMigration(data)),
  };
}

/**
 * Rules about consoles.
 *
 * L0, pure. Source: spec/schemas.md rule 2; spec/observed.md "Dies: better" (the API checks at vm.create).
 */
import type { VmConfig } from "@schemas/api/vm_config.ts";
import { fault, type Faults } from "./fault.ts";

const FILE_MISSING = "Path missing when using file console mode";
const SOCKET_MISSING = "Path missing when using socket console mode";

/** Output modes that need a path and have none, over all consoles. */
export function* consolePathFaults(config: Pick<VmConfig, "console" | "serial" | "debug_console">): Faults {
  if (config.console.mode === "File" && config.console.file === undefined) {
    yield fault(FILE_MISSING, "console.file");
  }
  if (config.serial.mode === "File" && config.serial.file === undefined) {
    yield fault(FILE_MISSING, "serial.file");
  }
  if (config.console.mode === "Socket" && config.console.socket === undefined) {
    yield fault(SOCKET_MISSING, "console.socket");
  }
  if (config.serial.mode === "Socket" && config.serial.socket === undefined) {
    yield fault(SOCKET_MISSING, "serial.socket");
  }
  if (config.debug_console.mode === "File" && config.debug_console.file === undefined) {
    yield fault("Path missing when using file mode for debug console", "debug_console.file");
  }
}

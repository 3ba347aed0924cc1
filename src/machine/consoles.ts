/**
 * Console back-ends of a configuration: opened at vm.create, closed at vm.delete, opened anew for a reboot.
 *
 * L5, main isolate.
 */
import type { VmConfig } from "@schemas/api/vm_config.ts";
import {
  type ChardevDescriptor,
  closeChardev,
  openChardev,
  openStandardOutput,
} from "@vmm/backends/chardev/open_chardev.ts";

/** Firmware of every VM prints to standard output: opened once, for the life of the process. */
let standardOutput: ChardevDescriptor | undefined;

/** Open back-ends; absent: mode Off. */
export class Consoles {
  serial?: ChardevDescriptor;
  console?: ChardevDescriptor;
  debugConsole?: ChardevDescriptor;
  readonly firmwareDebug: ChardevDescriptor = standardOutput ??= openStandardOutput();

  /** Opens what `config` asks for; nothing stays open after a failure. @throws ConfigError, HostError, ContextError */
  constructor(config: VmConfig) {
    try {
      // In the order of the original, in which terminals get their numbers.
      this.console = openChardev("console", config.console);
      this.serial = openChardev("serial", config.serial);
      this.debugConsole = openChardev("debug_console", config.debug_console);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** `config` with the paths of the terminals made for it. */
  complete(config: VmConfig): VmConfig {
    const withPath = <T extends { file?: string }>(part: T, chardev?: ChardevDescriptor): T =>
      chardev?.kind === "pty" ? { ...part, file: chardev.path } : part;
    return {
      ...config,
      serial: withPath(config.serial, this.serial),
      console: withPath(config.console, this.console),
      debug_console: withPath(config.debug_console, this.debugConsole),
    };
  }

  /** Back-ends that only print. */
  outputs(): ChardevDescriptor[] {
    return [this.debugConsole, this.firmwareDebug].filter((chardev) => chardev !== undefined);
  }

  /** Closes all; terminals get their modes back, socket files go. Never throws. */
  close(): void {
    for (const chardev of [this.serial, this.console, this.debugConsole]) {
      if (chardev !== undefined) closeChardev(chardev);
    }
  }
}

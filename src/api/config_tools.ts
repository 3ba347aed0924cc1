/**
 * What the control loop does with configurations beyond holding them: write, validate.
 *
 * L6, main isolate. Everything that needs the schemas stays behind this interface, so that the program listens and answers
 * `vmm.ping` before they are loaded.
 */
import type { ReceiveMigrationData, SendMigrationData } from "@schemas/api/migration.ts";
import type { VmConfig } from "@schemas/api/vm_config.ts";

/** Loaded with the first configuration. */
export interface ConfigTools {
  /** The configuration as JSON text. */
  configText(config: VmConfig): string;
  /** A live VM's device tree as JSON text. */
  deviceTreeText(tree: Record<string, unknown>): string;
  /** The configuration with what follows from it turned on. @throws ConfigError when a rule is broken */
  validate(config: VmConfig): VmConfig;
  /** @throws ConfigError when a console lacks the path its mode needs: so much is checked before it is stored */
  checkConsoles(config: VmConfig): void;
  /** @throws ConfigError when a parameter breaks a rule */
  checkSendMigration(data: SendMigrationData): void;
  /** @throws ConfigError when a parameter breaks a rule */
  checkReceiveMigration(data: ReceiveMigrationData): void;
}

/**
 * Errors of the machine description: what a configuration or a payload file cannot be made into.
 *
 * L2, any isolate. Messages are the original's where it has one; `cause` chains run from the outside in, so that an
 * error body lists them in order.
 */
import { VmmError } from "@vmm/errors/vmm_error.ts";

/** Conditions a caller can tell apart. */
export type ArchCondition =
  | "memory-layout"
  | "kernel-load"
  | "kernel-missing-pvh-header"
  | "kernel-cmdline"
  | "initramfs-address"
  | "memory-map"
  | "topology"
  | "acpi"
  | "smbios";

/** A configuration or payload that cannot be turned into a machine. Found when the machine is built: always 500. */
export class ArchError extends VmmError {
  readonly code = "OPERATION_REFUSED";
  readonly status = 500;

  constructor(readonly condition: ArchCondition, message: string, options?: ErrorOptions) {
    super(message, options);
  }
}

/**
 * Builds an error with its causes from messages, outermost first.
 *
 * @param messages at least one
 */
export function chainedError(condition: ArchCondition, ...messages: [string, ...string[]]): ArchError {
  let cause: ArchError | undefined;
  for (let i = messages.length - 1; i > 0; i--) {
    cause = new ArchError(condition, messages[i], cause && { cause });
  }
  return new ArchError(condition, messages[0], cause && { cause });
}

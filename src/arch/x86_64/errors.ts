/**
 * Errors of the machine description: what a configuration or a payload file cannot be made into.
 *
 * L2, any isolate. Messages are the original's where it has one; `cause` chains run from the outside in, so that an
 * error body lists them in order.
 */

/** Conditions a caller can tell apart. */
export type ArchErrorCode =
  | "memory-layout"
  | "kernel-load"
  | "kernel-missing-pvh-header"
  | "kernel-cmdline"
  | "initramfs-address"
  | "memory-map"
  | "topology"
  | "cpuid"
  | "acpi"
  | "smbios"
  | "mptable";

/** A configuration or payload that cannot be turned into a machine. */
export class ArchError extends Error {
  override readonly name = "ArchError";

  constructor(readonly code: ArchErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
  }

  /** Messages from this error down its causes, as an error body lists them. */
  get chain(): readonly string[] {
    const messages = [this.message];
    for (let cause = this.cause; cause instanceof Error; cause = cause.cause) messages.push(cause.message);
    return messages;
  }
}

/**
 * Builds an error with its causes from messages, outermost first.
 *
 * @param messages at least one
 */
export function chainedError(code: ArchErrorCode, ...messages: [string, ...string[]]): ArchError {
  let cause: Error | undefined;
  for (let i = messages.length - 1; i > 0; i--) {
    cause = new ArchError(code, messages[i], cause && { cause });
  }
  return new ArchError(code, messages[0], cause && { cause });
}

/**
 * A configuration or request parameter that breaks a rule.
 *
 * L0, main isolate. Source: spec/schemas.md "Validation rules", spec/rest-api.md §1.2.
 */
import { type ErrorCode, messagesOf, VmmError } from "./vmm_error.ts";

/** What a rule reports. */
export interface ConfigFault {
  /** The rule's own messages, outermost first; at least one. */
  readonly messages: readonly string[];
  /** Where in the configuration, as `disks[1].queue_size`. */
  readonly fieldPath: string;
  /** The value found there; undefined when it is missing. */
  readonly value?: unknown;
  /** 409 for a duplicate identifier or device path, else 400 (some parameter checks of migration: 500). */
  readonly status?: 400 | 409 | 500;
  /** Messages above the rule's own in a chain, outermost first; "Failed to validate config" unless given. */
  readonly context?: readonly string[];
}

/** Texts the API shows above a broken rule of the VM configuration. */
const API_VALIDATION_CONTEXT = ["Failed to validate config"] as const;

/** Texts the command line shows above a broken rule of the VM configuration. */
export const CLI_VALIDATION_CONTEXT = ["Error parsing config", "Error validating configuration"] as const;

/** A configuration that breaks a rule: which field, which value, in the original's words. */
export class ConfigError extends VmmError {
  readonly code: ErrorCode;
  readonly status: 400 | 409 | 500;
  /** The rule's own messages, outermost first. */
  readonly messages: readonly string[];
  readonly fieldPath: string;
  readonly value: unknown;
  /** Messages above them. */
  readonly context: readonly string[];

  constructor(fault: ConfigFault, options?: ErrorOptions) {
    super(fault.messages[0], options);
    this.messages = fault.messages;
    this.fieldPath = fault.fieldPath;
    this.value = fault.value;
    this.status = fault.status ?? 400;
    this.code = this.status === 409 ? "CONFIG_CONFLICT" : "CONFIG_INVALID";
    this.context = fault.context ?? API_VALIDATION_CONTEXT;
  }

  /** Context, the rule's own messages, then any cause. The command line uses `messages` instead. */
  override chain(): string[] {
    return [...this.context, ...this.messages, ...messagesOf(this.cause)];
  }
}

/**
 * Refused option values, in the original's words.
 *
 * L6, main isolate. Source: spec/cli.md §1; texts as the original prints them.
 */
import { VmmError } from "@vmm/errors/vmm_error.ts";

/** What is wrong with an option value. */
export type OptionFault = "unknown-option" | "invalid-syntax" | "conversion" | "invalid-value" | "rule";

/** An option value that cannot be read; the caller adds the option's name above it. */
export class OptionError extends VmmError {
  readonly code = "CONFIG_INVALID";
  readonly status = 400;
  readonly fault: OptionFault;

  private constructor(fault: OptionFault, message: string) {
    super(message);
    this.fault = fault;
  }

  /** `key` is no parameter of the option. */
  static unknownOption(key: string): OptionError {
    return new OptionError("unknown-option", `Unknown option: ${key}`);
  }

  /** `text` (a whole value, or a key without its value) breaks the syntax. */
  static invalidSyntax(text: string): OptionError {
    return new OptionError("invalid-syntax", `Invalid syntax: ${text}`);
  }

  /** `text` is no value for parameter `key`. */
  static conversion(key: string, text: string): OptionError {
    return new OptionError("conversion", `Unable to convert ${text} for ${key}`);
  }

  /** A value of the right form that is not allowed. */
  static invalidValue(text: string): OptionError {
    return new OptionError("invalid-value", `Invalid value: ${text}`);
  }

  /** A rule with a text of its own, as "Error parsing --fs: tag missing". */
  static rule(message: string): OptionError {
    return new OptionError("rule", message);
  }
}

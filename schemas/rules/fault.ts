/**
 * How rules report: as a sequence of faults in the original's order, of which callers take the first.
 *
 * L0, pure. Source: spec/schemas.md "Validation rules" (order decides which message appears).
 */
import { ConfigError, type ConfigFault } from "@vmm/errors/config_error.ts";

/** Faults in order, found one at a time as they are asked for. */
export type Faults = Generator<ConfigFault, void>;

/** One fault: what is wrong, where, and with which value. */
export function fault(
  message: string | readonly string[],
  fieldPath: string,
  value?: unknown,
  status?: 400 | 409,
): ConfigFault {
  return { messages: typeof message === "string" ? [message] : message, fieldPath, value, status };
}

/** The first of `faults` as an error, or undefined when there is none. */
export function firstError(faults: Faults): ConfigError | undefined {
  for (const found of faults) return new ConfigError(found);
  return undefined;
}

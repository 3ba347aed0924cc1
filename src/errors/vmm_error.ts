/**
 * Base of every error a caller of the VMM can receive.
 *
 * L0, any isolate. Source: spec/rest-api.md §1.2.
 */

/** Stable names of the conditions a program can act on. */
export type ErrorCode =
  | "CONFIG_INVALID"
  | "CONFIG_CONFLICT"
  | "VM_NOT_CREATED"
  | "VM_CONFIG_MISSING"
  | "VM_ALREADY_CREATED"
  | "VM_NOT_RUNNING"
  | "VM_MIGRATING"
  | "VM_RESTORING"
  | "VM_INVALID_TRANSITION"
  | "DEVICE_UNKNOWN"
  | "RESIZE_PENDING"
  | "OPERATION_REFUSED"
  | "HOST_CALL_FAILED"
  | "UNSUPPORTED"
  | "BUG";

/** HTTP statuses an error can map to. */
export type ErrorStatus = 400 | 404 | 409 | 429 | 500;

/** Causes deeper than this are not shown; a longer chain is a cycle. */
const MAX_CHAIN_LENGTH = 32;

/** An error with a stable code, a status and a chain of messages from outermost to root cause. */
export abstract class VmmError extends Error {
  abstract readonly code: ErrorCode;
  abstract readonly status: ErrorStatus;

  override get name(): string {
    return this.constructor.name;
  }

  /**
   * Messages from this error down to the root cause. The texts above it ("Error from API" and the
   * endpoint's own) are added by the API layer. Never throws.
   */
  chain(): string[] {
    return [this.message, ...messagesOf(this.cause)];
  }
}

/** Messages of any thrown value and its causes, outermost first; empty for undefined. Never throws. */
export function messagesOf(thrown: unknown): string[] {
  const messages: string[] = [];
  let current = thrown;
  while (current !== undefined && current !== null && messages.length < MAX_CHAIN_LENGTH) {
    if (current instanceof VmmError) {
      messages.push(...current.chain());
      break;
    }
    if (!(current instanceof Error)) {
      messages.push(String(current));
      break;
    }
    messages.push(current.message);
    current = current.cause;
  }
  return messages.slice(0, MAX_CHAIN_LENGTH);
}

/**
 * What the system call at the root of an error was about, as `open "/no/such/file"`; undefined where none was or it is not
 * known. For the log: the messages of a chain are the original's, which do not tell. Never throws.
 */
export function subjectOf(thrown: unknown): string | undefined {
  let current = thrown;
  for (let depth = 0; depth < MAX_CHAIN_LENGTH && current instanceof Error; depth++) {
    const { call, subject } = current as { call?: unknown; subject?: unknown };
    if (typeof call === "string" && typeof subject === "string") return `${call} ${JSON.stringify(subject)}`;
    current = current.cause;
  }
  return undefined;
}

/**
 * Errors of opening, locking and resizing disk images, in the words clients of the original know.
 *
 * L4, main isolate. Source: observed chains such as `["Cannot open disk path","I/O error (path=/x op=open)",
 * "No such file or directory (os error 2)"]`.
 */
import { type ErrorCode, messagesOf, VmmError } from "@vmm/errors/vmm_error.ts";

/** What kind of trouble an image is in. */
export type DiskFaultKind =
  | "I/O error"
  | "Invalid format"
  | "Unsupported feature"
  | "Corrupt image"
  | "Out of bounds"
  | "Not found"
  | "Overflow";

/** A disk that cannot be used: own words outermost first, then the cause's. */
export class DiskError extends VmmError {
  readonly code: ErrorCode;
  readonly status = 500;
  readonly messages: readonly string[];

  constructor(messages: readonly [string, ...string[]], cause?: unknown) {
    super(messages[0], cause === undefined ? undefined : { cause });
    this.messages = messages;
    this.code = cause === undefined ? "OPERATION_REFUSED" : "HOST_CALL_FAILED";
  }

  override chain(): string[] {
    return [...this.messages, ...messagesOf(this.cause)];
  }
}

/**
 * An image that cannot be opened: `Cannot open disk path`, then kind, path and operation, then the detail or cause.
 *
 * @param operation `open` or `detect_image_type`, left out of the text when undefined
 * @param detail own words, or the error that stopped us
 */
export function cannotOpen(
  kind: DiskFaultKind,
  path: string,
  operation: string | undefined,
  detail: unknown,
): DiskError {
  const where = operation === undefined ? `path=${path}` : `path=${path} op=${operation}`;
  const messages: [string, ...string[]] = ["Cannot open disk path", `${kind} (${where})`];
  if (typeof detail === "string") return new DiskError([...messages, detail]);
  return new DiskError(messages, detail);
}

/** Trouble inside an image format, found by a parser that knows neither path nor operation. */
export class ImageFault extends Error {
  override readonly name = "ImageFault";
  constructor(readonly kind: DiskFaultKind, message: string, options?: ErrorOptions) {
    super(message, options);
  }
}

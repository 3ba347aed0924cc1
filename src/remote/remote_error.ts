/**
 * What the remote client prints when something fails.
 *
 * L6, main isolate. Source: spec/cli.md §7; texts as the original prints them.
 */
import { messagesOf } from "@vmm/errors/vmm_error.ts";
import { DescriptorError, systemErrorText } from "./connection.ts";
import { type HttpResponse, ResponseError } from "./response.ts";

const HEADING = "Error: ch-remote exited with the following";

/** Names of the statuses the original knows; all others are "Unknown". */
const STATUS_NAMES: Readonly<Record<number, string>> = {
  100: "Continue",
  200: "Ok",
  204: "NoContent",
  400: "BadRequest",
  404: "NotFound",
  429: "TooManyRequests",
  500: "InternalServerError",
  501: "NotImplemented",
};

/** True for the statuses that are no error. */
export function isSuccess(status: number): boolean {
  return status === 100 || status === 200 || status === 204;
}

/** The chain of `messages` under the client's heading, with a final newline. */
export function chainText(messages: readonly string[]): string {
  if (messages.length === 1) return `${HEADING} error:\n  ${messages[0]}\n`;
  return [`${HEADING} chain of errors:`, ...messages.map((message, index) => `  ${index}: ${message}`), ""]
    .join("\n");
}

/** The messages in `body`, or why there are none. */
async function errorList(body: string): Promise<readonly string[] | string> {
  try {
    const list: unknown = JSON.parse(body);
    if (Array.isArray(list) && list.every((item) => typeof item === "string")) return list;
  } catch {
    // The reader below has the words for it.
  }
  const { readErrorMessages } = await import("@schemas/api/error.ts");
  const result = readErrorMessages(body);
  return result.ok ? result.value : result.message;
}

/** What is printed for a response that reports an error. */
export async function serverErrorText({ status, body = "" }: HttpResponse): Promise<string> {
  const list = await errorList(body);
  if (typeof list !== "string") {
    return chainText([
      "http client error",
      `Server responded with ${STATUS_NAMES[status] ?? "Unknown"}`,
      ...list,
    ]);
  }
  return [
    `${HEADING} chain of errors:`,
    "  0: http client error",
    `  X: Can't get remote's error messages from JSON response: ${list}: body='${body}'`,
    "",
  ].join("\n");
}

function isSystemError(error: unknown): boolean {
  return error instanceof Error && "syscall" in error && "code" in error;
}

function rootCause(error: unknown): unknown {
  let root = error;
  while (root instanceof Error && root.cause !== undefined && root.cause !== null) root = root.cause;
  return root;
}

/** What is printed for a request that could not be made or whose response could not be read. */
export async function clientErrorText(error: unknown): Promise<string> {
  if (error instanceof DescriptorError || error instanceof ResponseError) {
    return chainText(["http client error", ...messagesOf(error)]);
  }
  if (isSystemError(error)) {
    return chainText([
      "http client error",
      "Error writing to or reading from HTTP socket",
      await systemErrorText(error),
    ]);
  }
  const messages = messagesOf(error);
  const root = rootCause(error);
  if (isSystemError(root)) messages.splice(-1, 1, await systemErrorText(root));
  return chainText(messages);
}

/** A line in the form of the original's logger, which it uses for errors before the request. */
export function logLine(message: string, now: Date): string {
  return `[${now.toISOString().slice(0, 19)}Z ERROR ch_remote] ${message}\n`;
}

/**
 * A request that the VMM refused.
 *
 * L6, pure. Source: spec/rest-api.md §1.2.
 */

/** The VMM answered with an error status. `messages` is its chain, outermost first. */
export class ApiError extends Error {
  /** Name of the class. */
  override readonly name = "ApiError";

  /**
   * The error of one answer.
   *
   * @param status HTTP status, as 404
   * @param endpoint the operation, as `vm.boot`
   * @param messages the answer's chain of errors; empty when the answer had none
   * @param body the answer as it came
   */
  constructor(
    readonly status: number,
    readonly endpoint: string,
    readonly messages: readonly string[],
    readonly body: string,
  ) {
    super(`${endpoint} failed with status ${status}: ${messages.join(": ") || body || "no reason given"}`);
  }
}

/** The chain in an error's body: a JSON array of strings, or nothing. Never throws. */
export function messagesIn(body: string): string[] {
  try {
    const list: unknown = JSON.parse(body);
    return Array.isArray(list) ? list.map(String) : [];
  } catch {
    return [];
  }
}

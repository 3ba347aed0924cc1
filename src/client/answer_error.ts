/**
 * Answers that are not what they should be.
 *
 * L6, pure, no zod.
 */

/** An answer that has not the form it should have. */
export class AnswerError extends Error {
  /** Name of the class. */
  override readonly name = "AnswerError";
}

/** True for JSON objects. */
export const isRecord = (value: unknown): value is Record<string, unknown> =>
  value !== null && typeof value === "object" && !Array.isArray(value);

/** The object in `text`, as `parse` reads it. @throws AnswerError */
export function readObject(
  text: string,
  parse: (text: string) => unknown = JSON.parse,
): Record<string, unknown> {
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    throw new AnswerError("The VMM's answer is not JSON", { cause: error });
  }
  if (!isRecord(value)) throw new AnswerError("The VMM's answer is not an object");
  return value;
}

/**
 * Text that a program writes, collected as it comes, with waiting for a marker.
 *
 * Test framework.
 *
 * @module
 */

import { DeadlineError, eventually, HOST_TIMEOUT_MS } from "./deadline.ts";

/** How much of the end of the text an error message shows. */
const TAIL_CHARACTERS = 2000;

/** Collects a byte stream as text. Carriage returns are dropped: terminals put them before line feeds. */
export class Capture {
  #text = "";
  #ended = false;
  /** Settles when the stream has ended. */
  readonly done: Promise<void>;

  /** @param name what the stream is, for error messages */
  constructor(readonly name: string, stream: ReadableStream<Uint8Array>) {
    this.done = this.#collect(stream);
  }

  /** Everything so far. */
  get text(): string {
    return this.#text;
  }

  async #collect(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    try {
      for await (const bytes of stream) {
        this.#text += decoder.decode(bytes, { stream: true }).replaceAll("\r", "");
      }
    } catch {
      // A terminal reports the end of its other side as an error.
    }
    this.#ended = true;
  }

  /**
   * Waits for `pattern` in the text after offset `from`.
   *
   * @returns the text up to and including the match, from `from` on, and the offset behind the match
   * @throws DeadlineError if it does not come in time, or at once if the stream ends without it
   */
  async waitFor(
    pattern: string | RegExp,
    options: { timeoutMs?: number; from?: number } = {},
  ): Promise<{ text: string; end: number; match: RegExpExecArray | null }> {
    const { timeoutMs = HOST_TIMEOUT_MS, from = 0 } = options;
    const describe = () =>
      `${pattern} from ${this.name}; it ended with:\n${this.#text.slice(-TAIL_CHARACTERS)}`;
    return await eventually(describe, () => {
      const endedBefore = this.#ended;
      const text = this.#text.slice(from);
      if (typeof pattern === "string") {
        const at = text.indexOf(pattern);
        if (at >= 0) {
          return { text: text.slice(0, at + pattern.length), end: from + at + pattern.length, match: null };
        }
      } else {
        const match = new RegExp(pattern.source, pattern.flags.replace("g", "")).exec(text);
        if (match) {
          const end = match.index + match[0].length;
          return { text: text.slice(0, end), end: from + end, match };
        }
      }
      if (endedBefore) throw new DeadlineError(`The stream ended without ${describe()}`);
      return undefined;
    }, timeoutMs);
  }
}

/**
 * Reads the event monitor's output file while it grows.
 *
 * Test framework. The file is a sequence of JSON objects, each followed by an empty line.
 *
 * @module
 */

import { eventually, HOST_TIMEOUT_MS } from "./deadline.ts";

/** One event. */
export interface VmmEvent {
  timestamp: { secs: number; nanos: number };
  source: string;
  event: string;
  properties: Record<string, string> | null;
}

/** The complete events in `text`; an unfinished one at the end is left out. */
export function parseEvents(text: string): VmmEvent[] {
  return text.split("\n\n").slice(0, -1).map((object) => JSON.parse(object));
}

/** Follows one file. */
export class EventReader {
  constructor(readonly path: string) {}

  /** All events so far; none if the file is not there yet. */
  async all(): Promise<VmmEvent[]> {
    const text = await Deno.readTextFile(this.path).catch((error) => {
      if (error instanceof Deno.errors.NotFound) return "";
      throw error;
    });
    return parseEvents(text);
  }

  /** `source/event` of all events so far. */
  async names(): Promise<string[]> {
    return (await this.all()).map(({ source, event }) => `${source}/${event}`);
  }

  /**
   * Waits for an event, such as `vm/booted`.
   *
   * @param options `count`: how many of them there must be (1); `timeoutMs`
   */
  async waitFor(name: string, options: { count?: number; timeoutMs?: number } = {}): Promise<VmmEvent> {
    const { count = 1, timeoutMs = HOST_TIMEOUT_MS } = options;
    return await eventually(`event ${name} (${count})`, async () => {
      const found = (await this.all()).filter(({ source, event }) => `${source}/${event}` === name);
      return found.length >= count ? found[count - 1] : undefined;
    }, timeoutMs);
  }
}

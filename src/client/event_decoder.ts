/**
 * Decoding of the event stream: an HTTP/1.1 response of server-sent events, in whatever pieces it arrives.
 *
 * L6, pure. Source: HTML standard §9.2 "Server-sent events", RFC 9112 §7.1 for chunks.
 */

import { CUT_OFF_LINE } from "@vmm/api/event_feed.ts";

/** Longest line accepted; an event takes a few hundred bytes. */
const MAX_LINE_LENGTH = 1 << 20;

/** A response that is no event stream, or one that ends before the VMM has said that it is over. */
export class EventStreamError extends Error {
  /** Name of the class. */
  override readonly name = "EventStreamError";
}

type Phase = "head" | "size" | "data" | "data end" | "plain" | "ended";

/** Takes bytes, gives the data of each complete event. */
export class EventDecoder {
  #phase: Phase = "head";
  #text = "";
  #left = 0;
  #status = 0;
  #cutOff = false;
  #data: string[] = [];
  #line = "";
  readonly #decoder = new TextDecoder();
  readonly #head: string[] = [];

  /** Status of the response; 0 until it is known. */
  get status(): number {
    return this.#status;
  }

  /** True when the server has said that nothing follows. */
  get ended(): boolean {
    return this.#phase === "ended";
  }

  /** True when the server has said that events were left out. */
  get cutOff(): boolean {
    return this.#cutOff;
  }

  /** True when more was to come, as far as the response told. */
  get unfinished(): boolean {
    return this.#phase !== "ended" && this.#phase !== "plain";
  }

  /** Data of the events that `bytes` completes. @throws EventStreamError */
  push(bytes: Uint8Array): string[] {
    const events: string[] = [];
    // Bytes as characters, so that chunk sizes count; event data is decoded as UTF-8 below.
    for (let at = 0; at < bytes.length; at += 4096) {
      this.#text += String.fromCharCode(...bytes.subarray(at, at + 4096));
    }
    while (this.#step(events));
    if (this.#text.length > MAX_LINE_LENGTH || this.#line.length > MAX_LINE_LENGTH) {
      throw new EventStreamError("The event stream has a line that is too long");
    }
    return events;
  }

  #step(events: string[]): boolean {
    switch (this.#phase) {
      case "head": {
        const line = this.#takeLine();
        if (line === undefined) return false;
        if (line === "") this.#readHead();
        else this.#head.push(line);
        return true;
      }
      case "size": {
        const line = this.#takeLine();
        if (line === undefined) return false;
        this.#left = Number.parseInt(line, 16);
        if (!Number.isSafeInteger(this.#left) || this.#left < 0) {
          throw new EventStreamError("The event stream has a chunk without a size");
        }
        this.#phase = this.#left === 0 ? "ended" : "data";
        return true;
      }
      case "data": {
        const part = this.#text.slice(0, this.#left);
        this.#text = this.#text.slice(part.length);
        this.#left -= part.length;
        this.#take(part, events);
        if (this.#left > 0) return false;
        this.#phase = "data end";
        return true;
      }
      case "data end":
        if (this.#takeLine() === undefined) return false;
        this.#phase = "size";
        return true;
      case "plain":
        this.#take(this.#text, events);
        this.#text = "";
        return false;
      case "ended":
        return false;
    }
  }

  /** The next line of the response without its end, or undefined. */
  #takeLine(): string | undefined {
    const end = this.#text.indexOf("\r\n");
    if (end < 0) return undefined;
    const line = this.#text.slice(0, end);
    this.#text = this.#text.slice(end + 2);
    return line;
  }

  #readHead(): void {
    const status = /^HTTP\/1\.[01] (\d{3})/.exec(this.#head[0] ?? "")?.[1];
    if (status === undefined) throw new EventStreamError("The answer is not HTTP");
    this.#status = Number(status);
    const headers = this.#head.slice(1).map((line) => line.toLowerCase().replaceAll(" ", ""));
    if (this.#status !== 200 || !headers.some((line) => line.startsWith("content-type:text/event-stream"))) {
      throw new EventStreamError(`This VMM has no event stream (status ${this.#status})`);
    }
    this.#phase = headers.includes("transfer-encoding:chunked") ? "size" : "plain";
  }

  /** Lines of the event stream itself. */
  #take(part: string, events: string[]): void {
    this.#line += part;
    for (let end = this.#line.indexOf("\n"); end >= 0; end = this.#line.indexOf("\n")) {
      const line = this.#line.slice(0, end).replace(/\r$/, "");
      this.#line = this.#line.slice(end + 1);
      if (line === "" && this.#data.length > 0) {
        events.push(
          this.#decoder.decode(Uint8Array.from(this.#data.join("\n"), (char) => char.charCodeAt(0))),
        );
        this.#data = [];
      } else if (line.startsWith("data:")) {
        this.#data.push(line.slice("data:".length).replace(/^ /, ""));
      } else if (line === CUT_OFF_LINE) {
        this.#cutOff = true;
      }
    }
  }
}

/**
 * The line by which a host program says which port of the guest it wants: `CONNECT <port>\n`.
 *
 * L4, I/O Worker. What follows the line belongs to the guest, so not a byte more than the line may be taken from the stream.
 * Source: machine model §8 "vsock (hybrid)".
 */
import type { HostStream } from "@vmm/virtio/ports/streams.ts";

/** Longest line, the line feed included. */
const MAX_LINE_BYTES = 32;
const LINE_FEED = 10;
const EAGAIN = 11;
const MAX_PORT = 0xffff_ffff;

/** What reading came to: the port, or that more has to come, or that this is no client of ours. */
export type CommandResult = number | "incomplete" | "invalid";

/** The port in a line without its line feed. The word may be in either case; the number may have white space around it. */
function parseConnectLine(line: string): number | undefined {
  const match = /^connect (.*)$/is.exec(line);
  if (match === null) return undefined;
  const digits = match[1].trim();
  const port = Number(digits);
  return /^\+?\d+$/.test(digits) && port <= MAX_PORT ? port : undefined;
}

/** Reads the line from a stream that was just accepted. */
export class ConnectCommand {
  readonly #line = new Uint8Array(MAX_LINE_BYTES);
  #length = 0;

  constructor(readonly stream: HostStream) {}

  /** Takes what has come so far. */
  read(): CommandResult {
    const room = this.#line.subarray(this.#length);
    const seen = this.stream.receiveBytes(room, true);
    if (seen === -EAGAIN) return "incomplete";
    if (seen <= 0) return "invalid";
    const end = room.subarray(0, seen).indexOf(LINE_FEED);
    const taken = this.stream.receiveBytes(room.subarray(0, end < 0 ? seen : end + 1), false);
    if (taken <= 0) return "invalid";
    this.#length += taken;
    if (end < 0) return this.#length < MAX_LINE_BYTES ? "incomplete" : "invalid";
    const text = new TextDecoder().decode(this.#line.subarray(0, this.#length - 1));
    return parseConnectLine(text) ?? "invalid";
  }
}

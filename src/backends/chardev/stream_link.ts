/**
 * One connection of a character back-end: reads for the guest as far as the guest takes it, writes the ring out, notices
 * the end.
 *
 * L4, I/O Worker.
 */
import { Errno } from "@ffi/abi/errno.ts";
import { EPOLL } from "@ffi/libc/epoll.ts";
import { read } from "@ffi/libc/io.ts";
import type { CharInput } from "@vmm/bus/char_device.ts";
import type { IoEnvironment } from "@vmm/virtio/device.ts";
import type { ByteOutput } from "./byte_output.ts";
import { NO_WRITER } from "./chardev_block.ts";
import { canRead } from "@ffi/libc/poll.ts";

const CHUNK_BYTES = 4096;
/** Chunks per event: a flood on one connection leaves time for the others. */
const CHUNKS_PER_EVENT = 8;

/** The part of the environment a link needs. */
export type LinkEnvironment = Pick<IoEnvironment, "watch" | "rewatch" | "unwatch">;

/** What a connection consists of. `readFd` and `writeFd` may be the same, and −1 where a direction is missing. */
export interface LinkParts {
  readonly readFd: number;
  readonly writeFd: number;
  /** The descriptors may block: ask before each use. */
  readonly blocking: boolean;
}

/** A connection. */
export class StreamLink {
  readonly #chunk = new Uint8Array(CHUNK_BYTES);
  #input: CharInput | undefined;
  /** The input takes no more for now. */
  #heldBack = false;
  /** The peer is gone; bytes it left may still be readable. */
  #hungUp = false;
  #readEnded: boolean;
  #open = true;

  /** @param ended called once when the peer is gone and everything it sent was handed over */
  constructor(
    private readonly env: LinkEnvironment,
    private readonly output: ByteOutput,
    private readonly parts: LinkParts,
    private readonly ended: () => void,
  ) {
    const { readFd, writeFd } = parts;
    this.#readEnded = readFd < 0;
    if (readFd >= 0) env.watch(readFd, 0, (events) => this.#ready(events));
    if (writeFd >= 0 && writeFd !== readFd) env.watch(writeFd, 0, () => this.refresh());
    output.setWriter(writeFd < 0 ? NO_WRITER : writeFd);
  }

  /** Reads for `input` from now on; undefined: not at all. */
  setInput(input: CharInput | undefined): void {
    this.#input = input;
    this.#heldBack = false;
    this.refresh();
  }

  /** The input takes bytes again. */
  resumeInput(): void {
    if (!this.#heldBack) return;
    this.#heldBack = false;
    if (this.#hungUp) this.#pump();
    else this.refresh();
  }

  /** Writes what waits, and watches for what has to be waited for. */
  refresh(): void {
    if (!this.#open) return;
    const outputWaits = !this.output.flush();
    const { readFd, writeFd } = this.parts;
    const reads = this.#input !== undefined && !this.#heldBack && !this.#readEnded;
    // A peer that left is reported whatever is asked for, again and again: such a descriptor is not watched any more.
    const readEvents = this.#hungUp ? 0 : (reads ? EPOLL.IN : 0) | EPOLL.HUP;
    if (readFd === writeFd) {
      this.env.rewatch(readFd, this.#hungUp ? 0 : readEvents | (outputWaits ? EPOLL.OUT : 0));
      return;
    }
    if (readFd >= 0) this.env.rewatch(readFd, this.#readEnded ? 0 : readEvents);
    if (writeFd >= 0) this.env.rewatch(writeFd, outputWaits ? EPOLL.OUT : 0);
  }

  /** Forgets the connection without closing it. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    const { readFd, writeFd } = this.parts;
    if (readFd >= 0) this.env.unwatch(readFd);
    if (writeFd >= 0 && writeFd !== readFd) this.env.unwatch(writeFd);
    this.output.setWriter(NO_WRITER);
  }

  #ready(events: number): void {
    if ((events & (EPOLL.HUP | EPOLL.ERR)) !== 0 && !this.#hungUp) {
      this.#hungUp = true;
      this.output.setWriter(this.parts.readFd === this.parts.writeFd ? NO_WRITER : this.parts.writeFd);
    }
    if ((events & EPOLL.IN) !== 0 || this.#hungUp) this.#pump();
    else this.refresh();
  }

  #pump(): void {
    for (let i = 0; i < CHUNKS_PER_EVENT || this.#hungUp; i++) {
      const room = this.#input === undefined ? 0 : this.#input.room();
      if (room === 0) {
        this.#heldBack = this.#input !== undefined;
        break;
      }
      const result = this.#read(Math.min(room, CHUNK_BYTES));
      if (result === -Errno.EAGAIN || result === -Errno.EINTR) {
        if (this.#hungUp) return this.#end();
        break;
      }
      if (result <= 0) return this.#end();
      this.#input!.push(this.#chunk, result);
    }
    // Nobody wants what a lost peer left.
    if (this.#hungUp && this.#input === undefined) return this.#end();
    this.refresh();
  }

  #read(length: number): number {
    if (this.parts.blocking && !canRead(this.parts.readFd)) return -Errno.EAGAIN;
    return read(this.parts.readFd, this.#chunk, length);
  }

  #end(): void {
    this.#readEnded = true;
    this.refresh();
    this.ended();
  }
}

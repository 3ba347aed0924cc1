/**
 * The output side of a character back-end: bytes go out at once if the descriptor takes them, else into the shared ring.
 *
 * L4, vCPU Workers and the I/O Worker. Never waits for a reader. While the ring holds anything, new bytes queue behind it,
 * and the I/O Worker writes it out.
 */
import { Errno } from "@ffi/abi/errno.ts";
import { write } from "@ffi/libc/io.ts";
import { canWrite } from "@ffi/libc/poll.ts";
import type { ByteSink, IoWake } from "@vmm/bus/ports.ts";
import {
  appendOutput,
  type ChardevState,
  consumeOutput,
  NO_WRITER,
  peekOutput,
  Unheard,
} from "./chardev_block.ts";

/** Most bytes given to a descriptor that may block although it was ready. */
const CAREFUL_BYTES = 256;
const FLUSH_BYTES = 4096;

/** One isolate's access to the output of a back-end. */
export class ByteOutput implements ByteSink {
  readonly #one = new Uint8Array(1);
  readonly #chunk = new Uint8Array(FLUSH_BYTES);

  /**
   * @param io woken when bytes wait in the ring although somebody listens
   * @param blocking the descriptor could not be made non-blocking and is asked before each write
   */
  constructor(
    readonly state: ChardevState,
    private readonly io: IoWake,
    private readonly blocking: boolean,
  ) {}

  /** Takes one byte. Allocates nothing. */
  put(byte: number): void {
    this.#one[0] = byte;
    this.write(this.#one, 1);
  }

  /** Takes the first `length` bytes. */
  write(bytes: Uint8Array<ArrayBuffer>, length: number): void {
    const { state } = this;
    state.lock();
    const heard = state.writer !== NO_WRITER;
    const wasEmpty = state.count === 0;
    let done = 0;
    if (heard && wasEmpty) done = this.#writeNow(bytes, length);
    if (done < length) this.#keep(bytes, done, length);
    // Also when the listener was just lost: the I/O Worker has to find out.
    const wake = heard && wasEmpty && done < length;
    state.unlock();
    if (wake) this.io.wake();
  }

  /** Writes the ring out as far as the descriptor takes it; true when nothing is left or nobody listens. */
  flush(): boolean {
    const { state } = this;
    for (;;) {
      // The lock is given back between chunks: a vCPU that prints waits for one write at most.
      state.lock();
      const length = state.writer === NO_WRITER ? 0 : peekOutput(state, this.#chunk);
      const done = length === 0 ? 0 : this.#writeNow(this.#chunk, length);
      consumeOutput(state, done);
      const finished = state.count === 0 || state.writer === NO_WRITER;
      state.unlock();
      if (finished) return true;
      if (done === 0) return false;
    }
  }

  /** Output goes to `fd` from now on, or nowhere with `NO_WRITER`. */
  setWriter(fd: number): void {
    const { state } = this;
    state.lock();
    state.writer = fd;
    state.unlock();
  }

  /** Bytes taken by the descriptor, or lost for good. 0: try later. */
  #writeNow(bytes: Uint8Array<ArrayBuffer>, length: number): number {
    const { state } = this;
    if (this.blocking) {
      if (!canWrite(state.writer)) return 0;
      length = Math.min(length, CAREFUL_BYTES);
    }
    const result = write(state.writer, bytes, length);
    if (result >= 0) return result;
    if (result === -Errno.EAGAIN || result === -Errno.EINTR) return 0;
    if (state.unheard === Unheard.keep) {
      state.writer = NO_WRITER;
      return 0;
    }
    state.dropped += length;
    return length;
  }

  #keep(bytes: Uint8Array, from: number, to: number): void {
    const { state } = this;
    if (state.writer === NO_WRITER && state.unheard === Unheard.discard) return;
    appendOutput(state, bytes, from, to);
  }
}

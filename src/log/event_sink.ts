/**
 * Writes the event stream to a file, fifo, pipe or socket without ever waiting for a reader.
 *
 * L1, main isolate. An event that finds no room is dropped and counted. Source: spec/cli.md §5.
 */
import { Errno } from "@ffi/abi/errno.ts";
import { close, fileStatus, FileType, O, open, S_IFMT, setNonBlocking } from "@ffi/libc/fd.ts";
import { write } from "@ffi/libc/io.ts";
import type { VmmEvent } from "@schemas/api/event.ts";

const CREATE_MODE = 0o600;

/** An event as the stream shows it: indented JSON and an empty line. */
function eventText(event: VmmEvent): string {
  return `${JSON.stringify(event, null, 2)}\n\n`;
}

/** One output of the event stream. `write` never blocks and never throws. */
export class EventSink {
  #rest: Uint8Array<ArrayBuffer> | undefined;
  /** Events lost because nobody read, or the output was gone. */
  dropped = 0;

  private constructor(private readonly fd: number) {}

  /**
   * Opens `path`, created or truncated. A fifo is opened for reading too: then there is no waiting for a first reader, what
   * fits in its buffer is there when one comes, and one that leaves does no harm. @throws OsError
   */
  static openPath(path: string): EventSink {
    const fd = open(path, O.RDWR | O.CREAT | O.NONBLOCK | O.NOCTTY, CREATE_MODE);
    try {
      if ((fileStatus(fd).mode & S_IFMT) === FileType.regular) {
        close(fd);
        return new EventSink(open(path, O.WRONLY | O.CREAT | O.TRUNC, CREATE_MODE));
      }
      return new EventSink(fd);
    } catch (error) {
      close(fd);
      throw error;
    }
  }

  /** Uses an inherited descriptor. @throws OsError, EBADF when it is not open */
  static useDescriptor(fd: number): EventSink {
    const kind = fileStatus(fd).mode & S_IFMT;
    if (kind !== FileType.regular) setNonBlocking(fd, true);
    return new EventSink(fd);
  }

  /** Writes one event, or drops it. */
  write(event: VmmEvent): void {
    if (!this.#flush()) {
      this.dropped++;
      return;
    }
    const bytes = new TextEncoder().encode(eventText(event));
    const done = write(this.fd, bytes);
    if (done === bytes.length) return;
    // A stream socket may take a part: the rest goes first next time, or the reader would see broken JSON.
    if (done > 0) this.#rest = bytes.slice(done);
    else this.dropped++;
  }

  /** Writes what is left of the last event; false if there still is no room. */
  #flush(): boolean {
    if (this.#rest === undefined) return true;
    const done = write(this.fd, this.#rest);
    if (done === -Errno.EAGAIN) return false;
    if (done < 0 || done === this.#rest.length) this.#rest = undefined;
    else this.#rest = this.#rest.slice(done);
    return this.#rest === undefined;
  }
}

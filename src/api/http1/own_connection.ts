/**
 * A connection of our own to one of our front doors: the client's end.
 *
 * L6, main isolate. Never waits: the other end is served by the same thread.
 */
import { Errno } from "@ffi/abi/errno.ts";
import { close } from "@ffi/libc/fd.ts";
import { connectUnix, localName, receiveBytes, SocketMessage } from "@ffi/libc/socket.ts";

const encoder = new TextEncoder();

/** The client's end. */
export class OwnConnection {
  static #message: SocketMessage | undefined;

  private constructor(private readonly fd: number, readonly origin: string) {}

  /**
   * Connects to the socket at `path`.
   *
   * @param origin what stands before the path in each request line
   * @throws OsError
   */
  static to(path: string, origin: string): OwnConnection {
    return new OwnConnection(connectUnix(path, true), origin);
  }

  /** The name by which the server can tell this connection from others. */
  get name(): string {
    return localName(this.fd);
  }

  /** Sends `text`, which is ASCII; false when the socket does not take all of it. */
  send(text: string): boolean {
    const message = OwnConnection.#message ??= new SocketMessage(1);
    return message.send(this.fd, encoder.encode(text)) === text.length;
  }

  /** Reads what is there; returns the number of bytes, undefined when nothing more will come. */
  receive(target: Uint8Array<ArrayBuffer>): number | undefined {
    for (;;) {
      const count = receiveBytes(this.fd, target);
      if (count > 0) return count;
      if (count === -Errno.EAGAIN) return 0;
      if (count !== -Errno.EINTR) return undefined;
    }
  }

  close(): void {
    close(this.fd);
  }
}

/**
 * A connection of our own to one of our front doors: the client's end.
 *
 * L6, main isolate. Never waits: the other end is served by the same thread.
 */
import { Errno } from "@ffi/abi/errno.ts";
import { close } from "@ffi/libc/fd.ts";
import { connectUnix, localName, receiveBytes, SocketMessage } from "@ffi/libc/socket.ts";
import { fileAt } from "./serve_socket.ts";

const encoder = new TextEncoder();

/** The file of a front door's socket, as it was when the door opened: others may put theirs in its place. */
export class OwnSocket {
  readonly #file: string | undefined;

  /**
   * @param path of the door's socket, which listens
   * @param origin what stands before the path in each request line
   */
  constructor(private readonly path: string, private readonly origin: string) {
    try {
      this.#file = fileAt(path);
    } catch {
      // Removed by who made it: nobody can connect.
    }
  }

  /** Connects to the door. @throws Error when its socket is not there any more, OsError */
  connect(): OwnConnection {
    if (this.#file === undefined) throw new Error("The API socket has no file");
    if (fileAt(this.path) !== this.#file) throw new Error("The API socket was replaced");
    return new OwnConnection(connectUnix(this.path, true), this.origin);
  }
}

/** The client's end. */
export class OwnConnection {
  static #message: SocketMessage | undefined;

  /** @param fd connected; closed by `close` @param origin what stands before the path in each request line */
  constructor(private readonly fd: number, readonly origin: string) {}

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

/**
 * One request over a UNIX socket, with or without descriptors.
 *
 * L6, main isolate. `ffi/` is loaded only to send descriptors and to name a failure.
 * Source: spec/cli.md §7 "Request bytes", spec/rest-api.md §1.3.
 */
import { connect, Socket } from "node:net";
import { constants } from "node:os";
import { socketPathFault } from "@vmm/base/socket_path.ts";
import { type HttpResponse, ResponseReader } from "./response.ts";

/** One request. `path` is the whole request target. */
export interface HttpRequest {
  readonly method: "GET" | "PUT";
  readonly path: string;
  readonly body?: Uint8Array<ArrayBuffer>;
  /** Descriptors that go with the first bytes; they stay open here. */
  readonly fds: readonly number[];
}

/** Text of a failed call as the original prints it: "No such file or directory (os error 2)". */
export async function systemErrorText(error: unknown): Promise<string> {
  const code = (error as { code?: unknown }).code;
  const known: Readonly<Record<string, number>> = constants.errno;
  const errno = typeof code === "number" ? code : typeof code === "string" ? known[code] : undefined;
  if (errno === undefined) return error instanceof Error ? error.message : String(error);
  const { errorText } = await import("@ffi/abi/errno.ts");
  return `${errorText(errno)} (os error ${errno})`;
}

/** First bytes of a request: all that comes before the length of the body. */
function requestHead({ method, path }: HttpRequest): string {
  return `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n`;
}

function requestRest({ body }: HttpRequest): Uint8Array<ArrayBuffer> {
  const length = body === undefined ? "\r\n" : `Content-Length: ${body.length}\r\n\r\n`;
  const head = new TextEncoder().encode(length);
  const bytes = new Uint8Array(head.length + (body?.length ?? 0));
  bytes.set(head);
  if (body !== undefined) bytes.set(body, head.length);
  return bytes;
}

/** Why no socket can have `path`; undefined when one can. The runtime would take the next best name for an empty path. */
function pathFault(path: string): Error | undefined {
  const fault = socketPathFault(path);
  return fault === undefined
    ? undefined
    : Object.assign(new Error(fault), path === "" ? { code: "EINVAL" } : {});
}

/** A connection to the UNIX socket at `path`. @throws a system error with `code`, or Error for a path that is too long */
export function openSocket(path: string): Promise<Socket> {
  const fault = pathFault(path);
  if (fault !== undefined) return Promise.reject(fault);
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.removeListener("error", reject);
      resolve(socket);
    });
  });
}

/** A connection to a VMM, for one request. */
export class RemoteConnection {
  #socket: Socket;
  #closed = false;
  readonly #path: string;

  private constructor(socket: Socket, path: string) {
    this.#socket = socket;
    this.#path = path;
  }

  /** Connects to the socket at `path`. @throws a system error with `code`, or Error for a path that is too long */
  static async open(path: string): Promise<RemoteConnection> {
    return new RemoteConnection(await openSocket(path), path);
  }

  /**
   * Sends `request` and resolves with the response.
   * @throws ResponseError, a system error with `code`, or DescriptorError
   */
  async exchange(request: HttpRequest): Promise<HttpResponse> {
    const head = new TextEncoder().encode(requestHead(request));
    if (request.fds.length === 0) return await respond(this.#socket, head, requestRest(request));
    // Descriptors need a message of their own kind, which an adopted socket cannot send any more.
    this.#socket.destroy();
    this.#socket = await sendWithDescriptors(this.#path, head, request.fds);
    if (this.#closed) this.#socket.destroy();
    return await respond(this.#socket, requestRest(request));
  }

  /** Closes the connection; an exchange under way never settles then. Never throws. */
  close(): void {
    this.#closed = true;
    this.#socket.destroy();
  }
}

/** A message with descriptors could not be sent; `cause` says why. */
export class DescriptorError extends Error {
  override readonly name = "DescriptorError";
}

async function sendWithDescriptors(
  path: string,
  head: Uint8Array<ArrayBuffer>,
  fds: readonly number[],
): Promise<Socket> {
  const [{ connectUnix, SocketMessage }, { close }, { OsError }] = await Promise.all([
    import("@ffi/libc/socket.ts"),
    import("@ffi/libc/fd.ts"),
    import("@ffi/abi/errno.ts"),
  ]);
  const fd = connectUnix(path);
  // A fresh socket takes a few hundred bytes at once.
  const sent = new SocketMessage(1).send(fd, head, fds);
  if (sent !== head.length) {
    close(fd);
    const cause = sent < 0 ? new OsError(-sent, "sendmsg") : new Error("failed to write whole buffer");
    throw new DescriptorError("Error sending file descriptors", { cause });
  }
  return new Socket({ fd, readable: true, writable: true });
}

function respond(socket: Socket, ...parts: Uint8Array[]): Promise<HttpResponse> {
  return new Promise((resolve, reject) => {
    const reader = new ResponseReader();
    const attempt = (read: () => HttpResponse | undefined) => {
      try {
        const response = read();
        if (response !== undefined) resolve(response);
      } catch (error) {
        reject(error);
      }
    };
    socket.on("data", (chunk: Uint8Array) => attempt(() => reader.push(chunk)));
    socket.on("end", () => attempt(() => reader.end()));
    socket.on("error", reject);
    for (const part of parts) socket.write(part);
  });
}

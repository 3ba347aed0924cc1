/**
 * Finds a vhost-user back-end while a device is made, without keeping the API waiting.
 *
 * L4, main isolate. A back-end that is not there yet is waited for, as the original does; unlike there, one that is there
 * and says nothing is not waited for for ever. Source: spec/machine-model.md §12.
 */
import { Errno, OsError } from "@ffi/abi/errno.ts";
import { EPOLL, Epoll } from "@ffi/libc/epoll.ts";
import { close } from "@ffi/libc/fd.ts";
import { accept, connectUnix, listenUnix } from "@ffi/libc/socket.ts";
import { VhostUserConnection } from "./connection.ts";
import { type ConfigOverride, override, type VhostUserDescription } from "./description.ts";
import { negotiate, type Wishes } from "./negotiation.ts";
import { runAsync } from "./script.ts";

/** How long a back-end may take to appear, and to answer one request. */
const CONNECT_TIMEOUT_MS = 60_000;
const ANSWER_TIMEOUT_MS = 10_000;
const RETRY_MS = 100;
const SLICE_MS = 200;
/** Errors that pass: no socket, nobody listening, too many waiting, not ours yet. */
const NOT_THERE_YET: readonly number[] = [Errno.ENOENT, Errno.ECONNREFUSED, Errno.EAGAIN, Errno.EACCES];

/** Nobody came. */
export class ConnectTimeout extends Error {
  override readonly name = "ConnectTimeout";
  constructor(readonly socket: string) {
    super("Timed out waiting for vhost-user connection");
  }
}

/** Which back-end, and what is wanted of it. */
export interface ConnectRequest {
  readonly socket: string;
  /** True: we listen and the back-end connects. */
  readonly server: boolean;
  readonly wishes: Wishes;
  /** The device's configuration is the back-end's, also later. */
  readonly followsConfig?: boolean;
  /** What the front-end decides of the device's configuration. */
  readonly overrides?: readonly ConfigOverride[];
  readonly timeoutMs?: number;
}

/** A back-end that is there. */
export interface ConnectedBackend {
  readonly description: VhostUserDescription;
  /** Device configuration, overrides included; empty when the back-end has none. */
  readonly config: Uint8Array;
  /** Closes what main holds of it. */
  release(): void;
}

/** Connects and negotiates. @throws ConnectTimeout, BackendFault, OsError (a socket that cannot be made) */
export async function connectBackend(request: ConnectRequest): Promise<ConnectedBackend> {
  const { socket, server, wishes, followsConfig = false, overrides = [], timeoutMs = CONNECT_TIMEOUT_MS } =
    request;
  let listenFd = -1;
  let fd = -1;
  const release = () => {
    close(fd);
    close(listenFd);
    if (listenFd >= 0) removeFile(socket);
    fd = listenFd = -1;
  };
  try {
    if (server) {
      removeFile(socket);
      listenFd = listenUnix(socket, 1);
      fd = await accepted(listenFd, socket, timeoutMs);
    } else {
      fd = await connected(socket, timeoutMs);
    }
    const connection = new VhostUserConnection(fd);
    try {
      const { config, ...agreement } = await runAsync(
        connection,
        negotiate(connection, wishes),
        ANSWER_TIMEOUT_MS,
      );
      override(config, overrides);
      const description = { socket, fd, listenFd, wishes, agreement, followsConfig, overrides };
      return { description, config, release };
    } finally {
      connection.dispose();
    }
  } catch (error) {
    release();
    throw error;
  }
}

async function connected(socket: string, timeoutMs: number): Promise<number> {
  for (const end = performance.now() + timeoutMs;;) {
    try {
      return connectUnix(socket);
    } catch (error) {
      if (!(error instanceof OsError && NOT_THERE_YET.includes(error.code))) throw error;
      if (performance.now() >= end) throw new ConnectTimeout(socket);
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

async function accepted(listenFd: number, socket: string, timeoutMs: number): Promise<number> {
  const epoll = new Epoll(1);
  try {
    epoll.add(listenFd, EPOLL.IN, 0);
    for (const end = performance.now() + timeoutMs;;) {
      const fd = accept(listenFd);
      if (fd >= 0) return fd;
      if (performance.now() >= end) throw new ConnectTimeout(socket);
      await epoll.waitPooled(SLICE_MS);
    }
  } finally {
    epoll.close();
  }
}

function removeFile(path: string): void {
  try {
    Deno.removeSync(path);
  } catch {
    // There was none, or it is in use: binding says so.
  }
}

/**
 * The host's side of a guest's sockets: UNIX sockets beside the device's own.
 *
 * L4, I/O Worker. Programs connect to the device's socket `S`; a service for host port P listens on `S_P`. The listening
 * descriptor belongs to main, connections belong to whoever took them. Source: machine model §8 "vsock (hybrid)".
 */
import { Errno, OsError } from "@ffi/abi/errno.ts";
import { close } from "@ffi/libc/fd.ts";
import { readv, write, writev } from "@ffi/libc/io.ts";
import { accept, connectUnix, endSending, MSG, receiveBytes } from "@ffi/libc/socket.ts";
import type { HostStream, StreamHost } from "@vmm/virtio/ports/streams.ts";

/** An open device socket. Plain and cloneable. */
export interface VsockBackend {
  readonly listenFd: number;
  /** Where the socket is; services lie beside it. */
  readonly path: string;
}

/** A non-blocking stream socket. The process ignores SIGPIPE: writing to a peer that left is an error like others. */
class SocketStream implements HostStream {
  constructor(readonly fd: number) {}

  receive(iov: Uint8Array<ArrayBuffer>, count: number): number {
    return readv(this.fd, iov, count);
  }

  receiveBytes(target: Uint8Array<ArrayBuffer>, peek: boolean): number {
    return receiveBytes(this.fd, target, peek ? MSG.PEEK : 0);
  }

  send(iov: Uint8Array<ArrayBuffer>, count: number): number {
    return writev(this.fd, iov, count);
  }

  sendBytes(bytes: Uint8Array<ArrayBuffer>): number {
    return write(this.fd, bytes);
  }

  endSending(): void {
    endSending(this.fd);
  }

  close(): void {
    close(this.fd);
  }
}

/** The host behind a device's socket. */
export function attachStreamHost({ listenFd, path }: VsockBackend): StreamHost {
  return {
    listenFd,
    accept() {
      const fd = accept(listenFd);
      return fd < 0 ? fd : new SocketStream(fd);
    },
    connect(port) {
      try {
        return new SocketStream(connectUnix(`${path}_${port}`));
      } catch (error) {
        return error instanceof OsError ? -error.code : -Errno.EINVAL;
      }
    },
  };
}

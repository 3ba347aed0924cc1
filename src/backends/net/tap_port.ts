/**
 * One queue of a tap, as the net handler uses it.
 *
 * L4, I/O Worker. The descriptors belong to main and are never closed here.
 */
import { readv, write, writev } from "@ffi/libc/io.ts";
import { enableQueue, setOffload } from "@ffi/libc/tap.ts";
import type { PacketPort } from "@vmm/virtio/ports/packets.ts";

class TapPort implements PacketPort {
  constructor(readonly fd: number) {}

  receive(iov: Uint8Array<ArrayBuffer>, count: number): number {
    return readv(this.fd, iov, count);
  }

  send(iov: Uint8Array<ArrayBuffer>, count: number): number {
    return writev(this.fd, iov, count);
  }

  sendFrame(packet: Uint8Array<ArrayBuffer>): number {
    return write(this.fd, packet);
  }

  setOffload(flags: number): number {
    return setOffload(this.fd, flags);
  }

  setEnabled(on: boolean): number {
    return enableQueue(this.fd, on);
  }
}

/** Ports over the descriptors `openTap` gave, one per queue pair. */
export function attachTaps(fds: readonly number[]): PacketPort[] {
  return fds.map((fd) => new TapPort(fd));
}

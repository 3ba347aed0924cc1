/**
 * The channel on which a vhost-user back-end makes requests of its own.
 *
 * L4, I/O Worker. Only "the configuration changed" is understood; a request that wants an answer gets a refusal.
 * Source: QEMU docs/interop/vhost-user.rst "Back-end message types".
 */
import { Errno } from "@ffi/abi/errno.ts";
import { EPOLL } from "@ffi/libc/epoll.ts";
import { close } from "@ffi/libc/fd.ts";
import { SocketMessage, socketPair } from "@ffi/libc/socket.ts";
import type { IoEnvironment } from "@vmm/virtio/device.ts";
import { BackendFault } from "./connection.ts";
import {
  BackendRequest,
  encodeMessage,
  HEADER_BYTES,
  MAX_PAYLOAD_BYTES,
  readHeader,
  u64Payload,
} from "./protocol.ts";

/** What a back-end may ask for. */
export interface ChannelEvents {
  configChanged(): void;
  /** The back-end broke the protocol. */
  failed(fault: BackendFault): void;
}

/** Any number but 0 refuses. */
const REFUSED = 1;
const MAX_DESCRIPTORS = 8;
/** Messages per turn: other devices share the thread. */
const TURN_MESSAGES = 16;

export class BackendChannel {
  readonly #fd: number;
  #peerFd: number;
  readonly #message = new SocketMessage(HEADER_BYTES + MAX_PAYLOAD_BYTES, MAX_DESCRIPTORS);
  readonly #received = new Uint8Array(HEADER_BYTES + MAX_PAYLOAD_BYTES);
  #length = 0;

  constructor(
    private readonly env: Pick<IoEnvironment, "watch" | "unwatch">,
    private readonly events: ChannelEvents,
  ) {
    [this.#fd, this.#peerFd] = socketPair();
    env.watch(this.#fd, EPOLL.IN, () => this.#readable());
  }

  /** The back-end's end: the caller sends it and closes it. */
  takePeer(): number {
    const fd = this.#peerFd;
    this.#peerFd = -1;
    return fd;
  }

  close(): void {
    this.env.unwatch(this.#fd);
    close(this.#fd);
    close(this.#peerFd);
    this.#peerFd = -1;
  }

  #readable(): void {
    let changed = false;
    for (let i = 0; i < TURN_MESSAGES; i++) {
      const request = this.#next();
      if (request === undefined) break;
      if (request < 0) return;
      changed ||= request === BackendRequest.CONFIG_CHANGE_MSG;
    }
    if (changed) this.events.configChanged();
  }

  /** The next request's number; undefined when there is none yet, −1 when there will be none any more. */
  #next(): number | undefined {
    for (;;) {
      let missing = HEADER_BYTES - this.#length;
      if (missing <= 0) {
        const header = readHeader(this.#received);
        if ("fault" in header) return this.#fail(`The back-end sent ${header.fault}`);
        missing = HEADER_BYTES + header.sizeBytes - this.#length;
        if (missing === 0) {
          this.#length = 0;
          const understood = header.request === BackendRequest.CONFIG_CHANGE_MSG;
          if (header.needReply) this.#answer(header.request, understood ? 0 : REFUSED);
          return header.request;
        }
      }
      const count = this.#message.receive(this.#fd, missing);
      this.#message.descriptors.forEach(close);
      if (count === -Errno.EAGAIN || count === -Errno.EINTR) return undefined;
      if (count <= 0) {
        this.env.unwatch(this.#fd); // the main connection tells if the back-end is gone
        return -1;
      }
      this.#received.set(this.#message.data.subarray(0, count), this.#length);
      this.#length += count;
    }
  }

  #answer(request: number, value: number): void {
    this.#message.send(this.#fd, encodeMessage(request, u64Payload(value), { reply: true }));
  }

  #fail(text: string): number {
    this.events.failed(new BackendFault(text));
    return -1;
  }
}

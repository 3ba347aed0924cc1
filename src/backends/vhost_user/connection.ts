/**
 * One vhost-user connection: a request at a time, and what comes back, checked.
 *
 * L4, any isolate; never waits. The other side is not trusted: a message it should not send, of a size it should not have,
 * or with descriptors nobody asked for, is a `BackendFault`. Source: QEMU docs/interop/vhost-user.rst.
 */
import { Errno, errorName } from "@ffi/abi/errno.ts";
import { close } from "@ffi/libc/fd.ts";
import { SocketMessage } from "@ffi/libc/socket.ts";
import {
  encodeMessage,
  HEADER_BYTES,
  MAX_PAYLOAD_BYTES,
  readHeader,
  readU64,
  requestName,
  U64_BYTES,
} from "./protocol.ts";

/** A back-end that went away, broke the protocol, or refused something. */
export class BackendFault extends Error {
  override readonly name = "BackendFault";
}

/** What answer a request has. `minBytes` to `maxBytes` of payload, with exactly `descriptors` descriptors. */
export interface ReplyShape {
  readonly minBytes: number;
  readonly maxBytes: number;
  readonly descriptors: number;
}

/** A request and what it is answered with. */
export interface Exchange {
  readonly request: number;
  readonly payload: Uint8Array<ArrayBuffer>;
  /** Sent along; they stay open here. */
  readonly descriptors?: readonly number[];
  /** Absent: no answer but an acknowledgement, where the back-end gives them. */
  readonly reply?: ReplyShape;
}

/** An answer. Whoever gets it owns the descriptors. */
export interface Reply {
  readonly payload: Uint8Array<ArrayBuffer>;
  readonly descriptors: readonly number[];
}

/** A sequence of requests, each seeing the answers of those before. Run by one of the drivers in `script.ts`. */
export type Script<T> = Generator<Exchange, T, Reply>;

const CLOSED = "The back-end closed the connection";
const NOTHING = new Uint8Array(0);
const NO_REPLY: Reply = { payload: NOTHING, descriptors: [] };
const ACKNOWLEDGEMENT: ReplyShape = { minBytes: U64_BYTES, maxBytes: U64_BYTES, descriptors: 0 };
/** More descriptors in one message are closed by the kernel and counted as a fault. */
const MAX_DESCRIPTORS = 8;

/** A connected socket. */
export class VhostUserConnection {
  /** The back-end acknowledges requests that have no answer of their own (REPLY_ACK was negotiated). */
  acknowledges = false;
  readonly #message = new SocketMessage(HEADER_BYTES + MAX_PAYLOAD_BYTES, MAX_DESCRIPTORS);
  readonly #received = new Uint8Array(HEADER_BYTES + MAX_PAYLOAD_BYTES);
  #length = 0;
  #descriptors: number[] = [];
  #awaited: { request: number; shape: ReplyShape; acknowledgement: boolean } | undefined;

  /** @param fd non-blocking; not closed by this class */
  constructor(readonly fd: number) {}

  /** True while an answer is outstanding. */
  get waiting(): boolean {
    return this.#awaited !== undefined;
  }

  /** Sends a request. An answer of nothing is returned at once; undefined: `receive` will have it. @throws BackendFault */
  send(exchange: Exchange): Reply | undefined {
    const { request, payload, descriptors, reply } = exchange;
    const needReply = reply === undefined && this.acknowledges;
    const bytes = encodeMessage(request, payload, { needReply });
    const sent = this.#message.send(this.fd, bytes, descriptors);
    if (sent !== bytes.byteLength) {
      if (sent === -Errno.EPIPE || sent === -Errno.ECONNRESET) throw new BackendFault(CLOSED);
      const reason = sent < 0 ? errorName(-sent) : "the back-end does not take messages";
      throw new BackendFault(`Cannot send ${requestName(request)}: ${reason}`);
    }
    const shape = reply ?? (needReply ? ACKNOWLEDGEMENT : undefined);
    if (shape === undefined) return NO_REPLY;
    this.#awaited = { request, shape, acknowledgement: needReply };
    return undefined;
  }

  /** Takes what has arrived; the answer once it is complete, undefined until then. @throws BackendFault, also at the end of the stream */
  receive(): Reply | undefined {
    for (;;) {
      const want = this.#missing();
      if (want === 0) return this.#complete();
      const count = this.#message.receive(this.fd, want);
      if (count === -Errno.EAGAIN || count === -Errno.EINTR) return undefined;
      this.#descriptors.push(...this.#message.descriptors);
      if (count === 0 || count === -Errno.ECONNRESET) throw new BackendFault(CLOSED);
      if (count < 0) throw new BackendFault(`The connection failed: ${errorName(-count)}`);
      if (this.#message.descriptorsLost || this.#descriptors.length > MAX_DESCRIPTORS) {
        throw new BackendFault("The back-end sent too many descriptors");
      }
      this.#received.set(this.#message.data.subarray(0, count), this.#length);
      this.#length += count;
      if (this.#awaited === undefined) throw new BackendFault("The back-end sent something nobody asked for");
    }
  }

  /** Closes descriptors of a message that never became complete. */
  dispose(): void {
    this.#descriptors.forEach(close);
    this.#descriptors = [];
  }

  /** Bytes until the header, or then the message, is complete. */
  #missing(): number {
    if (this.#length < HEADER_BYTES) return HEADER_BYTES - this.#length;
    const header = readHeader(this.#received);
    if ("fault" in header) throw new BackendFault(`The back-end sent ${header.fault}`);
    return HEADER_BYTES + header.sizeBytes - this.#length;
  }

  #complete(): Reply {
    const header = readHeader(this.#received);
    if ("fault" in header || this.#awaited === undefined) throw new BackendFault("Unexpected message");
    const { request, shape, acknowledgement } = this.#awaited;
    const name = requestName(request);
    if (!header.isReply || header.request !== request) {
      throw new BackendFault(`The back-end answered ${name} with ${requestName(header.request)}`);
    }
    if (header.sizeBytes < shape.minBytes || header.sizeBytes > shape.maxBytes) {
      throw new BackendFault(`The back-end answered ${name} with ${header.sizeBytes} bytes`);
    }
    if (this.#descriptors.length !== shape.descriptors) {
      throw new BackendFault(`The back-end answered ${name} with ${this.#descriptors.length} descriptors`);
    }
    const payload = this.#received.slice(HEADER_BYTES, this.#length);
    const descriptors = this.#descriptors;
    this.#descriptors = [];
    this.#length = 0;
    this.#awaited = undefined;
    if (acknowledgement && readU64(payload) !== 0n) throw new BackendFault(`The back-end refused ${name}`);
    return { payload, descriptors };
  }
}

/**
 * The other end of a vhost-user connection for tests: answers as told, remembers what it was asked.
 *
 * L4, tests only.
 */
import { canRead } from "@ffi/libc/poll.ts";
import { close, memfd } from "@ffi/libc/fd.ts";
import { SocketMessage } from "@ffi/libc/socket.ts";
import {
  configPayload,
  encodeMessage,
  HEADER_BYTES,
  readHeader,
  requestName,
  u64Payload,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VhostUser,
  vringState,
} from "../protocol.ts";

/** What the fake says of itself. */
export interface FakeOptions {
  readonly features?: bigint;
  readonly protocolFeatures?: bigint;
  readonly queueCount?: number;
  readonly config?: Uint8Array;
  /** Next available entry of every ring when it is stopped. */
  readonly base?: number;
  /** Answers differently: raw bytes to send instead, or undefined to answer as usual. */
  readonly instead?: (name: string, usual: Uint8Array | undefined) => Uint8Array | "silence" | undefined;
}

/** Reads requests and answers them when `serve` is called. */
export class FakeBackend {
  /** Names of requests in order, with ring numbers where they have one. */
  readonly asked: string[] = [];
  readonly payloads = new Map<string, Uint8Array>();
  /** Descriptors that came, by the request's name. */
  readonly descriptors = new Map<string, number[]>();
  readonly #message = new SocketMessage(8192, 16);
  #buffer = new Uint8Array(0);
  #came: number[] = [];
  #closed = false;

  constructor(readonly fd: number, readonly options: FakeOptions = {}) {}

  /** Handles all that has arrived; true if there was anything. */
  serve(): boolean {
    let some = false;
    while (!this.#closed && canRead(this.fd)) {
      // One message at a time: descriptors belong to the message they came with.
      const count = this.#message.receive(this.fd, this.#missing());
      this.#came.push(...this.#message.descriptors);
      if (count <= 0) return some;
      some = true;
      const joined = new Uint8Array(this.#buffer.byteLength + count);
      joined.set(this.#buffer);
      joined.set(this.#message.data.subarray(0, count), this.#buffer.byteLength);
      this.#buffer = joined;
      if (this.#missing() > 0) continue;
      const header = readHeader(this.#buffer);
      if ("fault" in header) throw new Error(header.fault);
      const payload = this.#buffer.slice(HEADER_BYTES);
      this.#buffer = new Uint8Array(0);
      this.#handle(header.request, payload, header.needReply);
    }
    return some;
  }

  #missing(): number {
    const have = this.#buffer.byteLength;
    if (have < HEADER_BYTES) return HEADER_BYTES - have;
    const header = readHeader(this.#buffer);
    if ("fault" in header) throw new Error(header.fault);
    return HEADER_BYTES + header.sizeBytes - have;
  }

  /** Dies; a second time nothing happens. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    close(this.fd);
    for (const list of this.descriptors.values()) list.forEach(close);
    this.#came.forEach(close);
  }

  #handle(request: number, payload: Uint8Array, needReply: boolean): void {
    const name = requestName(request);
    const isRing = name.includes("VRING");
    this.asked.push(isRing ? `${name} ${payload[0]}` : name);
    this.payloads.set(isRing ? `${name} ${payload[0]}` : name, payload);
    this.descriptors.get(name)?.forEach(close);
    this.descriptors.set(name, this.#came);
    this.#came = [];
    const passed: number[] = [];
    const answer = this.#answer(request, payload, passed) ?? (needReply ? u64Payload(0) : undefined);
    const usual = answer && encodeMessage(request, answer, { reply: true });
    const instead = this.options.instead?.(name, usual);
    const bytes = instead === "silence" ? undefined : instead ?? usual;
    if (bytes !== undefined) this.#message.send(this.fd, bytes.slice(), passed);
    passed.forEach(close);
  }

  #answer(request: number, payload: Uint8Array, passed: number[]): Uint8Array | undefined {
    const { features = 1n << 32n, protocolFeatures = 0n, queueCount = 4, config, base = 0 } = this.options;
    switch (request) {
      case VhostUser.GET_FEATURES: {
        const own = protocolFeatures === 0n ? 0n : 1n << BigInt(VHOST_USER_F_PROTOCOL_FEATURES);
        return u64Payload(features | own);
      }
      case VhostUser.GET_PROTOCOL_FEATURES:
        return u64Payload(protocolFeatures);
      case VhostUser.GET_QUEUE_NUM:
        return u64Payload(queueCount);
      case VhostUser.GET_VRING_BASE:
        return vringState(payload[0], base);
      case VhostUser.GET_INFLIGHT_FD:
        passed.push(memfd("inflight"));
        return payload;
      case VhostUser.GET_CONFIG: {
        const wanted = new DataView(payload.buffer).getUint32(4, true);
        if (config === undefined || wanted > config.byteLength) return new Uint8Array(0);
        return configPayload(0, config.subarray(0, wanted));
      }
      default:
        return undefined;
    }
  }
}

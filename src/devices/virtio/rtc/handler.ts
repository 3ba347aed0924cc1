/**
 * Answers the requests of a clock device: one UTC clock, the host's wall clock.
 *
 * L4, I/O Worker. Source: virtio 1.4 §5.22.6.
 */
import type { Activation, QueueHandler } from "@vmm/virtio/device.ts";
import type { DescriptorChain } from "@vmm/virtio/queue/chain.ts";
import { QueueServer } from "@vmm/virtio/queue/server.ts";
import * as spec from "./spec.ts";

const REQUEST_QUEUE = 0;
const CLOCKS = 1;

/** What the handler is given besides the activation. */
export interface RtcHandlerOptions {
  /** Nanoseconds since 1970-01-01 UTC. */
  readonly nowNs: () => bigint;
}

/** Starts a clock device. */
export function createRtcHandler(activation: Activation, options: RtcHandlerOptions): QueueHandler {
  return new RtcHandler(activation, options.nowNs);
}

class RtcHandler implements QueueHandler {
  readonly #bytes = new Uint8Array(spec.RTC_RESPONSE_BYTES);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #server: QueueServer;

  constructor(activation: Activation, private readonly nowNs: () => bigint) {
    this.#server = new QueueServer(activation, REQUEST_QUEUE, (chain) => this.#answer(chain));
  }

  onKick(_index: number): void {
    this.#server.kick();
  }

  /** Nothing is in flight between two calls. */
  drain(): void {
    this.#server.stop();
  }

  close(): void {
    this.#server.stop();
  }

  /** Writes the response; returns its length, 0 for what is no request at all. */
  #answer(chain: DescriptorChain): number {
    if (chain.readableBytes < spec.RTC_HEAD_BYTES || chain.writableBytes < spec.RTC_HEAD_BYTES) return 0;
    this.#bytes.fill(0);
    const length = this.#fill(chain);
    if (length <= chain.writableBytes) return chain.writeBytes(0, this.#bytes.subarray(0, length));
    this.#bytes.fill(0);
    return chain.writeBytes(0, this.#status(spec.VIRTIO_RTC_S_EINVAL));
  }

  /** Fills the response buffer; returns the length that goes out. */
  #fill(chain: DescriptorChain): number {
    const type = chain.readU16(spec.RtcRequest.msg_type);
    if (type === spec.VIRTIO_RTC_REQ_CFG) {
      this.#view.setUint16(spec.RtcResponse.num_clocks, CLOCKS, true);
      return spec.RTC_RESPONSE_BYTES;
    }
    if (
      type !== spec.VIRTIO_RTC_REQ_READ && type !== spec.VIRTIO_RTC_REQ_CLOCK_CAP &&
      type !== spec.VIRTIO_RTC_REQ_CROSS_CAP
    ) {
      return this.#status(spec.VIRTIO_RTC_S_EOPNOTSUPP).byteLength;
    }
    if (chain.readableBytes < spec.RTC_CLOCK_REQUEST_BYTES) {
      return this.#status(spec.VIRTIO_RTC_S_EINVAL).byteLength;
    }
    if (chain.readU16(spec.RtcRequest.clock_id) >= CLOCKS) this.#status(spec.VIRTIO_RTC_S_ENODEV);
    else if (type === spec.VIRTIO_RTC_REQ_READ) {
      this.#view.setBigUint64(spec.RtcResponse.clock_reading, this.nowNs(), true);
    } else if (type === spec.VIRTIO_RTC_REQ_CLOCK_CAP) {
      this.#bytes[spec.RtcResponse.type] = spec.VIRTIO_RTC_CLOCK_UTC_MAYBE_SMEARED;
    } // cross time stamps: none, all zero
    return spec.RTC_RESPONSE_BYTES;
  }

  /** The response head alone, with `status`. */
  #status(status: number): Uint8Array {
    this.#bytes[spec.RtcResponse.status] = status;
    return this.#bytes.subarray(0, spec.RTC_HEAD_BYTES);
  }
}

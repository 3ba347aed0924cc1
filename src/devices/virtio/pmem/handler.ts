/**
 * Serves the flush requests of a persistent memory device; the memory itself is mapped into the guest and needs no help.
 *
 * L4, I/O Worker. Requests that come while a flush is under way are all answered by the next one.
 * Source: virtio 1.2 §5.19.6, §5.19.7.
 */
import type { Activation, QueueHandler } from "@vmm/virtio/device.ts";
import { FLUSH_PENDING, type FlushPort } from "@vmm/virtio/ports/flush.ts";
import type { DescriptorChain } from "@vmm/virtio/queue/chain.ts";
import { LATER, QueueServer } from "@vmm/virtio/queue/server.ts";

const REQUEST_QUEUE = 0;
const EPOLLIN = 1;

/** `type` of a request, and `ret` of a response: u32 each. */
const VIRTIO_PMEM_REQ_TYPE_FLUSH = 0;
const VIRTIO_PMEM_RESP_TYPE_OK = 0;
const VIRTIO_PMEM_RESP_TYPE_EIO = 1;
const WORD_BYTES = 4;

/** What the handler is given besides the activation. */
export interface PmemHandlerOptions {
  /** Outlives activations. */
  readonly file: FlushPort;
}

/** Starts a persistent memory device. */
export function createPmemHandler(activation: Activation, options: PmemHandlerOptions): QueueHandler {
  return new PmemHandler(activation, options.file);
}

/** A request that waits for a flush. */
interface Waiter {
  readonly head: number;
  /** Guest address of the response. */
  readonly response: number;
}

class PmemHandler implements QueueHandler {
  readonly #server: QueueServer;
  /** Answered when the flush under way has finished. */
  #flushing: Waiter[] = [];
  /** Answered by the flush after that. */
  #waiting: Waiter[] = [];
  #underWay = false;
  #failureTold = false;

  constructor(private readonly activation: Activation, private readonly file: FlushPort) {
    this.#server = new QueueServer(activation, REQUEST_QUEUE, (chain) => this.#request(chain));
    if (file.completionFd >= 0) activation.env.watch(file.completionFd, EPOLLIN, () => this.#finished());
  }

  onKick(_index: number): void {
    this.#server.kick();
    if (!this.#underWay) this.#flush();
  }

  drain(): void {
    this.#server.stop();
    while (this.#underWay) this.#finished();
  }

  close(): void {
    this.drain();
    if (this.file.completionFd >= 0) this.activation.env.unwatch(this.file.completionFd);
  }

  #request(chain: DescriptorChain): number {
    const at = chain.readableCount;
    const hasRoom = chain.count > at && chain.lengthBytes(at) >= WORD_BYTES;
    if (chain.readableBytes < WORD_BYTES || !hasRoom) return 0;
    if (chain.readU32(0) !== VIRTIO_PMEM_REQ_TYPE_FLUSH) {
      chain.writeU32(0, VIRTIO_PMEM_RESP_TYPE_EIO);
      return WORD_BYTES;
    }
    // A driver that offers buffers it has not got back could go on for ever.
    if (this.#flushing.length + this.#waiting.length >= this.#server.queue.size) {
      this.activation.fail({ fault: "more requests than the queue holds" });
      return LATER;
    }
    this.#waiting.push({ head: chain.head, response: chain.address(at) });
    return LATER;
  }

  /** Starts a flush for everything that waits. */
  #flush(): void {
    while (this.#waiting.length > 0) {
      this.#flushing = this.#waiting;
      this.#waiting = [];
      const result = this.file.start();
      if (result === FLUSH_PENDING) {
        this.#underWay = true;
        return;
      }
      this.#answer(result);
    }
  }

  #finished(): void {
    if (!this.#underWay) return;
    this.#underWay = false;
    this.#answer(this.file.finish());
    this.#flush();
  }

  #answer(result: number): void {
    if (result < 0) this.#tellFailure(-result);
    const status = result < 0 ? VIRTIO_PMEM_RESP_TYPE_EIO : VIRTIO_PMEM_RESP_TYPE_OK;
    for (const { head, response } of this.#flushing) {
      this.activation.memory.writeU32(response, status);
      this.#server.complete(head, WORD_BYTES);
    }
    this.#flushing = [];
  }

  #tellFailure(errno: number): void {
    if (this.#failureTold) return;
    this.#failureTold = true;
    const { id, env } = this.activation;
    const text = `Flushing the file of "${id}" failed with errno ${errno}`;
    env.post({ kind: "log", level: "error", key: `pmem:${id}`, text });
  }
}

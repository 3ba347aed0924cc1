/**
 * The queue handler of a device whose rings somebody else serves.
 *
 * L4, I/O Worker. It tells the back-end where the rings are, passes interrupts on, and takes the rings back for a pause, a
 * reset or a removal. A queue that is not the back-end's (the control queue of a network device) is served here.
 */
import type { Activation, QueueHandler } from "@vmm/virtio/device.ts";
import type { RingBackend, ServedRing } from "@vmm/virtio/ports/ring_backend.ts";
import type { SplitQueue } from "@vmm/virtio/queue/split.ts";

/** A queue that is served in this process. */
export interface LocalQueue {
  readonly index: number;
  /** The driver notified it. */
  serve(): void;
  /** Nothing of it is under way afterwards. */
  pause(): void;
}

/** What the handler is given besides the activation. */
export interface VhostUserHandlerOptions {
  readonly backend: RingBackend;
  /** Queues the back-end can serve: the first ones. */
  readonly rings: number;
  /** Makes the queue that is served here, when the accepted features have one. */
  readonly local?: (activation: Activation) => LocalQueue | undefined;
}

const EPOLLIN = 1;

/** Starts a device. The back-end gets its rings with the first kick. */
export function createVhostUserHandler(
  activation: Activation,
  options: VhostUserHandlerOptions,
): QueueHandler {
  return new VhostUserHandler(activation, options);
}

class VhostUserHandler implements QueueHandler {
  readonly #rings: ServedRing[] = [];
  readonly #local: LocalQueue | undefined;
  #serving = false;

  constructor(private readonly activation: Activation, private readonly options: VhostUserHandlerOptions) {
    const { backend } = options;
    const local = this.#local = options.local?.(activation);
    if (local !== undefined && activation.queues[local.index]?.enabled) {
      const fd = backend.kickFd(local.index);
      activation.env.watch(fd, EPOLLIN, () => {
        backend.clearKick(local.index);
        local.serve();
      });
    }
    for (let index = 0; index < activation.queues.length; index++) {
      const queue = activation.queues[index];
      if (index >= options.rings || index === local?.index || !queue.enabled) continue;
      const ring = ringOf(queue, index, activation);
      if (ring !== undefined) this.#rings.push(ring);
    }
  }

  onKick(index: number): void {
    if (!this.#serving) this.#start();
    if (index === this.#local?.index) this.#local.serve();
    else if (index < this.options.rings) this.options.backend.kick(index);
  }

  drain(): void {
    this.#local?.pause();
    if (!this.#serving) return;
    this.#serving = false;
    const positions = this.options.backend.stop();
    for (const { index } of this.#rings) this.activation.queues[index].takeBack(positions[index]);
  }

  close(): void {
    this.options.backend.forget();
  }

  #start(): void {
    this.#serving = true;
    const { activation } = this;
    this.options.backend.start({
      features: BigInt(activation.featuresHigh) << 32n | BigInt(activation.featuresLow),
      rings: this.#rings,
      interrupt: (ring) => activation.interruptQueue(ring),
      configChanged: () => activation.interruptConfig(),
    });
  }
}

/** Where a queue's rings are in this process. */
function ringOf(queue: SplitQueue, index: number, { memory }: Activation): ServedRing | undefined {
  const { size, descriptors, driver, device } = queue.layout;
  const [descHost, driverHost, deviceHost] = [descriptors, driver, device].map((gpa) => memory.host(gpa, 1));
  if (descHost < 0 || driverHost < 0 || deviceHost < 0) return undefined;
  return {
    index,
    size,
    descriptors: descHost,
    driver: driverHost,
    device: deviceHost,
    position: (lost) => lost ? queue.usedIndex() : queue.nextAvail,
  };
}

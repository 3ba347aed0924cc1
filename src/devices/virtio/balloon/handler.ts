/**
 * Serves the queues of a balloon: pages the guest gives up go back to the host, also those it only reports as free.
 *
 * L4, I/O Worker. Page numbers come in any order; neighbours are put together, so that a call serves many. What is not RAM
 * is left alone. Source: virtio 1.2 §5.5.6, §5.5.6.6.
 */
import type { GuestMemory, MappedRegion } from "@vmm/memory/guest_memory.ts";
import type { Activation, QueueHandler } from "@vmm/virtio/device.ts";
import type { PageAdvisor } from "@vmm/virtio/ports/memory.ts";
import type { DescriptorChain } from "@vmm/virtio/queue/chain.ts";
import { QueueServer } from "@vmm/virtio/queue/server.ts";
import { BALLOON_PAGE_BYTES, DEFLATE_QUEUE, INFLATE_QUEUE, REPORTING_QUEUE } from "./model.ts";

const PFN_BYTES = 4;
/** Longest array of page numbers in one buffer, as the original takes it; Linux sends no longer ones. */
const MAX_BUFFER_BYTES = 256 * PFN_BYTES;
/** Page numbers taken from one request, however many buffers it has. */
const MAX_REQUEST_PAGES = 4096;
const TURN_REQUESTS = 4;
const TURN_REPORTS = 16;

/** What the handler is given besides the activation. */
export interface BalloonHandlerOptions {
  readonly pages: PageAdvisor;
}

/** Starts a balloon. */
export function createBalloonHandler(activation: Activation, options: BalloonHandlerOptions): QueueHandler {
  return new BalloonHandler(activation, options.pages);
}

type Advice = (region: MappedRegion, offset: number, lengthBytes: number) => number;

class BalloonHandler implements QueueHandler {
  readonly #servers: readonly QueueServer[];
  readonly #memory: GuestMemory;
  readonly #release: Advice;
  readonly #want: Advice;
  /** Told already: a guest could repeat it for ever. */
  readonly #told = new Set<string>();
  /** The run of pages collected so far. */
  #runStart = 0;
  #runPages = 0;

  constructor(private readonly activation: Activation, pages: PageAdvisor) {
    this.#memory = activation.memory;
    this.#release = (region, offset, length) => pages.release(region, offset, length);
    this.#want = (region, offset, length) => pages.want(region, offset, length);
    const list = (index: number, advice: Advice) =>
      new QueueServer(activation, index, (chain) => this.#takeList(chain, advice), TURN_REQUESTS);
    const servers = [list(INFLATE_QUEUE, this.#release), list(DEFLATE_QUEUE, this.#want)];
    if (activation.queues.length > REPORTING_QUEUE) {
      servers.push(
        new QueueServer(activation, REPORTING_QUEUE, (chain) => this.#takeReport(chain), TURN_REPORTS),
      );
    }
    this.#servers = servers;
  }

  onKick(index: number): void {
    this.#servers[index]?.kick();
  }

  /** Nothing is in flight between two calls. */
  drain(): void {
    for (const server of this.#servers) server.stop();
  }

  close(): void {
    this.drain();
  }

  /** Advises on the pages whose numbers a request lists. */
  #takeList(chain: DescriptorChain, advice: Advice): number {
    let offset = 0;
    let left = MAX_REQUEST_PAGES;
    for (let buffer = 0; buffer < chain.readableCount && left > 0; buffer++) {
      const length = chain.lengthBytes(buffer);
      if (length > MAX_BUFFER_BYTES || length % PFN_BYTES !== 0) {
        this.#tell(`a list of ${length} bytes is ignored`);
      } else {
        for (let at = offset; at < offset + length && left > 0; at += PFN_BYTES, left--) {
          this.#addPage(chain.readU32(at), advice);
        }
      }
      offset += length;
    }
    this.#adviseRun(advice);
    return 0;
  }

  #addPage(page: number, advice: Advice): void {
    if (this.#runPages > 0 && page === this.#runStart + this.#runPages) {
      this.#runPages++;
    } else if (this.#runPages > 0 && page === this.#runStart - 1) {
      this.#runStart = page;
      this.#runPages++;
    } else {
      this.#adviseRun(advice);
      this.#runStart = page;
      this.#runPages = 1;
    }
  }

  #adviseRun(advice: Advice): void {
    const end = (this.#runStart + this.#runPages) * BALLOON_PAGE_BYTES;
    let gpa = this.#runStart * BALLOON_PAGE_BYTES;
    this.#runPages = 0;
    while (gpa < end) {
      const region = this.#memory.find(gpa, BALLOON_PAGE_BYTES);
      if (region === undefined) {
        this.#tell(`page 0x${gpa.toString(16)} is not RAM`);
        gpa += BALLOON_PAGE_BYTES;
        continue;
      }
      const length = Math.min(end, region.end) - gpa;
      this.#check(advice(region, gpa - region.gpa, length));
      gpa += length;
    }
  }

  /** Gives the ranges of a report back. Its buffers are the free pages themselves. */
  #takeReport(chain: DescriptorChain): number {
    let bytes = 0;
    for (let buffer = chain.readableCount; buffer < chain.count; buffer++) {
      const gpa = chain.address(buffer);
      const length = chain.lengthBytes(buffer);
      const region = this.#memory.find(gpa, length);
      if (region !== undefined) this.#check(this.#release(region, gpa - region.gpa, length));
      bytes += length;
    }
    return bytes;
  }

  #check(result: number): void {
    if (result < 0) this.#tell(`the host refuses advice on pages: errno ${-result}`);
  }

  #tell(text: string): void {
    const kind = text.replaceAll(/0x[0-9a-f]+|\d+/g, "#");
    if (this.#told.has(kind)) return;
    this.#told.add(kind);
    const { id, env } = this.activation;
    env.post({ kind: "log", level: "warn", key: `balloon:${id}`, text: `Balloon "${id}": ${text}` });
  }
}

/**
 * Serves the queues of a block device.
 *
 * L4, I/O Worker. Requests are carried out in the order they are found, a batch at a time, and shown to the driver at the
 * end of the batch; those the disk finishes later are answered as they come back. Nothing is allocated per request.
 * Source: virtio 1.2 §5.2.5, §5.2.6.
 */
import type { RateLimiter } from "@vmm/base/rate_limiter.ts";
import type { Activation, QueueHandler } from "@vmm/virtio/device.ts";
import { hasFeature } from "@vmm/virtio/features.ts";
import { type Disk, IO_PENDING } from "@vmm/virtio/ports/disk.ts";
import { BlockCounters } from "./counters.ts";
import { setCapacity } from "./model.ts";
import { type BlockLimits, type BlockRequest, NO_STATUS, PROCEED } from "./request.ts";
import { RequestRun } from "./run.ts";
import {
  BlockConfig,
  RequestHeader,
  SECTOR_BYTES,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "./spec.ts";

/** What main tells a block device's handler: plain and cloneable. `Image` is for whoever opens it in the Worker. */
export interface BlockBackend<Image = unknown> {
  readonly image: Image;
  readonly readonly: boolean;
  readonly protectSectorZero: boolean;
  /** What the features offered say. */
  readonly discard: boolean;
  readonly writeZeroes: boolean;
  readonly serial: Uint8Array;
  /** Made by `createBlockCounters`. */
  readonly counters: SharedArrayBuffer;
  /** Made by `createLimiterState`; disks of one group share it. */
  readonly limiter?: SharedArrayBuffer;
}

/** What the handler is given besides the activation. */
export interface BlockHandlerOptions {
  /** Outlives the handler: a driver may reset the device and start it again. */
  readonly disk: Disk;
  readonly limiter?: RateLimiter;
  /** Microseconds of a clock that never goes back, modulo 2^30: numbers too small to be objects. */
  readonly nowUs: () => number;
}

/** Requests shown to the driver together: more would keep the first one waiting. */
const BATCH = 32;
/** After this much work in one go other devices of the Worker get their turn. */
const TURN_REQUESTS = 1024;
const TURN_BYTES = 32 << 20;
const EPOLLIN = 1;
const EINVAL = 22;
/** Shortest time between two reports of failing requests. */
const REPORT_INTERVAL_US = 1_000_000;
/** The clock counts modulo this plus one. */
const CLOCK_MASK = 0x3fff_ffff;

/** States of a token. */
const IDLE = 0;
const IN_FLIGHT = 1;
/** A write that has to be made durable before it is answered: the write itself, and the flush after it. */
const THROUGH_WRITE = 2;
const THROUGH_FLUSH = 3;

/** Starts a block device. */
export function createBlockHandler(
  activation: Activation<BlockBackend>,
  options: BlockHandlerOptions,
): QueueHandler {
  return new BlockHandler(activation, options);
}

class BlockHandler implements QueueHandler {
  readonly #activation: Activation<BlockBackend>;
  readonly #disk: Disk;
  readonly #limiter: RateLimiter | undefined;
  readonly #nowUs: () => number;
  readonly #counters: BlockCounters;
  readonly #limits: BlockLimits;
  readonly #serial: Uint8Array;
  readonly #run = new RequestRun();
  /** The member of the run that is being carried out. */
  #chain = this.#run.at(0).chain;
  #request = this.#run.at(0).request;

  /** First token of each queue; a token is that plus the head of a chain. */
  readonly #firstToken: number[] = [];
  readonly #state: Uint8Array;
  /** Batch in which each token was last used: the same head twice in one batch is a broken driver. */
  readonly #usedInBatch: Uint32Array;
  readonly #queueOf: Uint16Array;
  readonly #type: Uint32Array;
  readonly #length: Uint32Array;
  readonly #statusAddress: Float64Array;
  readonly #startUs: Uint32Array;
  #batch = 0;
  #pending = 0;
  /** Queues with answers that the driver has not been shown. */
  readonly #unpublished: Uint8Array;
  /** Per queue: asks the Worker to look for the next request instead of waiting for a notification. */
  readonly #attend: (() => boolean)[];
  #writeback = true;
  #turnBytes = 0;
  #stopped = false;
  #paused = false;
  #cancelTimer: (() => void) | undefined;
  #hasReported = false;
  #lastReportUs = 0;
  /** Failures since then. */
  #unreported = 0;
  /** Token of a piecewise operation, and its last result. */
  #pieceToken = -1;
  #pieceResult = 0;

  constructor(activation: Activation<BlockBackend>, options: BlockHandlerOptions) {
    const { backend, queues, config } = activation;
    this.#activation = activation;
    this.#disk = options.disk;
    this.#limiter = options.limiter;
    this.#nowUs = options.nowUs;
    this.#counters = new BlockCounters(backend.counters);
    this.#serial = backend.serial;
    this.#limits = {
      capacitySectors: Math.floor(options.disk.sizeBytes / SECTOR_BYTES),
      readonly: backend.readonly,
      protectSectorZero: backend.protectSectorZero,
      discard: backend.discard,
      writeZeroes: backend.writeZeroes,
      serialBytes: backend.serial.byteLength,
    };
    let tokens = 0;
    for (const queue of queues) {
      this.#firstToken.push(tokens);
      tokens += queue.size;
    }
    this.#state = new Uint8Array(tokens);
    this.#usedInBatch = new Uint32Array(tokens);
    this.#queueOf = new Uint16Array(tokens);
    this.#type = new Uint32Array(tokens);
    this.#length = new Uint32Array(tokens);
    this.#statusAddress = new Float64Array(tokens);
    this.#startUs = new Uint32Array(tokens);
    this.#unpublished = new Uint8Array(queues.length);
    queues.forEach((queue, index) =>
      this.#queueOf.fill(index, this.#firstToken[index], this.#firstToken[index] + queue.size)
    );
    this.#attend = queues.map((_, index) =>
      activation.env.attend?.({ look: () => this.#look(index), rest: () => this.#rest(index) }) ??
        (() => false)
    );
    this.#readCacheMode();
    if (this.#leads) config[BlockConfig.writeback] = this.#writeback ? 1 : 0;
    if (this.#disk.completionFd >= 0) {
      activation.env.watch(this.#disk.completionFd, EPOLLIN, () => this.#reap());
    }
  }

  onKick(index: number): void {
    this.#paused = false;
    if (this.#stopped) return;
    this.#readCacheMode();
    this.#serve(index);
  }

  onCommand(command: { kind: string } & Record<string, unknown>): unknown {
    if (command.kind !== "resize") return { result: -EINVAL };
    const sizeBytes = Number(command.sizeBytes);
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0 || sizeBytes % SECTOR_BYTES !== 0) {
      return { result: -EINVAL };
    }
    this.#finishPending();
    const result = this.#disk.resize(sizeBytes);
    if (result < 0) return { result };
    this.#limits.capacitySectors = this.#disk.sizeBytes / SECTOR_BYTES;
    // The leading share is the last to know: whoever is told then may use what is new on every queue.
    if (this.#leads) {
      setCapacity(this.#activation.config, this.#disk.sizeBytes);
      this.#activation.interruptConfig();
    }
    return { result };
  }

  drain(): void {
    this.#paused = true;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#finishPending();
  }

  close(): void {
    this.drain();
    this.#stopped = true;
    if (this.#disk.completionFd >= 0) this.#activation.env.unwatch(this.#disk.completionFd);
  }

  get #leads(): boolean {
    return (this.#activation.share ?? 0) === 0;
  }

  /** Works through queue `index` until it is empty, the limiter says stop, or the turn is over. */
  #serve(index: number): void {
    const queue = this.#activation.queues[index];
    let left = TURN_REQUESTS;
    this.#turnBytes = 0;
    queue.disableNotifications();
    for (;;) {
      const startUs = this.#nowUs();
      const wanted = BATCH;
      const done = this.#serveBatch(index, wanted, startUs);
      if (this.#pending > 0) {
        this.#disk.submit();
        // Much of it has finished by now: that saves a round through the Worker's loop.
        this.#disk.reap(this.#completed);
      }
      this.#publish(index);
      this.#counters.publish((this.#nowUs() - startUs) & CLOCK_MASK);
      if (this.#stopped) return;
      if (done < 0) return this.#again(Math.max(1, this.#limiter?.blockedMs() ?? 0));
      left -= done;
      if (done < wanted) {
        if (queue.fault !== undefined) return this.#break(queue.fault.fault);
        // what the disk still works on comes back by a descriptor, which is seen at once only by who waits for it
        if (this.#pending === 0 && this.#attend[index]()) return;
        if (!queue.enableNotifications()) return;
        queue.disableNotifications();
      }
      if (left <= 0 || this.#turnBytes >= TURN_BYTES) return this.#again(0);
    }
  }

  /** The Worker looks for requests. */
  #look(index: number): boolean {
    const queue = this.#activation.queues[index];
    if (this.#stopped || this.#paused || !queue.hasRequests()) return false;
    this.#readCacheMode();
    this.#serve(index);
    return true;
  }

  /** The Worker looks no more. */
  #rest(index: number): boolean {
    const queue = this.#activation.queues[index];
    if (this.#stopped || this.#paused) return false;
    const hasMore = queue.enableNotifications();
    if (queue.fault !== undefined) this.#break(queue.fault.fault);
    return hasMore;
  }

  /** Takes up to `wanted` requests; returns how many there were, or −1 when the limiter says stop. */
  #serveBatch(index: number, wanted: number, startUs: number): number {
    const queue = this.#activation.queues[index];
    const run = this.#run;
    const first = this.#firstToken[index];
    this.#batch = (this.#batch + 1) >>> 0;
    let taken = 0;
    for (; taken < wanted; taken++) {
      const { chain, request } = run.at(run.count);
      if (!queue.pop(chain)) break;
      const token = first + chain.head;
      if (this.#state[token] !== IDLE || this.#usedInBatch[token] === this.#batch) {
        this.#executeRun(index, startUs);
        this.#break(`head ${chain.head} was made available again while it was in use`);
        return taken;
      }
      const verdict = request.parse(chain, this.#limits);
      if (verdict !== PROCEED) {
        this.#usedInBatch[token] = this.#batch;
        if (verdict !== NO_STATUS) chain.writeU8(chain.writableBytes - 1, verdict);
        queue.push(chain.head, verdict === NO_STATUS ? 0 : 1);
        this.#unpublished[index] = 1;
        continue;
      }
      if (this.#limiter !== undefined && !this.#mayPass(request)) {
        this.#executeRun(index, startUs);
        queue.rewind(1);
        return -1;
      }
      this.#usedInBatch[token] = this.#batch;
      if (run.count > 0 && !run.continues()) this.#executeRun(index, startUs);
      run.take();
    }
    this.#executeRun(index, startUs);
    return taken;
  }

  /** Carries out what the run holds; the request behind it, if it was filled in, becomes the first of the next run. */
  #executeRun(index: number, startUs: number): void {
    const run = this.#run;
    const { count } = run;
    if (count > 1 && this.#transferTogether(index)) {
      run.clear();
      return;
    }
    const first = this.#firstToken[index];
    for (let i = 0; i < count; i++) {
      const { chain, request } = run.at(i);
      this.#chain = chain;
      this.#request = request;
      this.#execute(index, first + chain.head, startUs);
    }
    if (count > 0) run.clear();
  }

  /** Reads or writes the run by one call; false if that did not do it. */
  #transferTogether(index: number): boolean {
    const run = this.#run;
    const disk = this.#disk;
    const { request: { type, sector } } = run.at(0);
    const isWrite = type === VIRTIO_BLK_T_OUT;
    if (disk.transferNow === undefined || (isWrite && !this.#writeback) || !run.gather()) return false;
    const { lengthBytes } = run;
    const offset = sector * SECTOR_BYTES;
    if (disk.transferNow(isWrite, run.iovec, run.vectors, lengthBytes, offset) !== lengthBytes) return false;
    this.#turnBytes += lengthBytes;
    for (let i = 0; i < run.count; i++) {
      const { chain, request } = run.at(i);
      const status = this.#account(type, request.lengthBytes, request.lengthBytes);
      chain.writeU8(chain.writableBytes - 1, status);
      this.#answer(index, chain.head, type, request.lengthBytes, status);
    }
    return true;
  }

  /** Asks the limiter: data transfers count their bytes, everything counts as an operation. */
  #mayPass({ type, lengthBytes }: BlockRequest): boolean {
    const isTransfer = type === VIRTIO_BLK_T_IN || type === VIRTIO_BLK_T_OUT;
    return this.#limiter!.tryRequest(isTransfer ? lengthBytes : 0);
  }

  #execute(index: number, token: number, startUs: number): void {
    const chain = this.#chain;
    const { type, lengthBytes } = this.#request;
    if (type === VIRTIO_BLK_T_GET_ID) {
      chain.writeBytes(0, this.#serial);
      chain.writeU8(chain.writableBytes - 1, VIRTIO_BLK_S_OK);
      this.#activation.queues[index].push(chain.head, this.#serial.byteLength + 1);
      this.#unpublished[index] = 1;
      return;
    }
    let result = this.#start(token);
    if (type === VIRTIO_BLK_T_OUT && !this.#writeback) {
      if (result === IO_PENDING) this.#state[token] = THROUGH_WRITE;
      else if (result === lengthBytes) {
        const flushed = this.#disk.flush(token);
        if (flushed === IO_PENDING) this.#state[token] = THROUGH_FLUSH;
        if (flushed < 0) result = flushed;
      }
    } else if (result === IO_PENDING) {
      this.#state[token] = IN_FLIGHT;
    }
    if (result === IO_PENDING) {
      this.#pending++;
      this.#type[token] = type;
      this.#length[token] = lengthBytes;
      this.#startUs[token] = startUs;
      const last = chain.count - 1;
      this.#statusAddress[token] = chain.address(last) + chain.lengthBytes(last) - 1;
      return;
    }
    const status = this.#account(type, lengthBytes, result);
    chain.writeU8(chain.writableBytes - 1, status);
    this.#answer(index, chain.head, type, lengthBytes, status);
  }

  /** Hands the request in `#chain` and `#request` to the disk. */
  #start(token: number): number {
    const disk = this.#disk;
    const chain = this.#chain;
    const { type, lengthBytes } = this.#request;
    const offset = this.#request.sector * SECTOR_BYTES;
    switch (type) {
      case VIRTIO_BLK_T_IN: {
        this.#turnBytes += lengthBytes;
        const count = chain.gather(true, 0, lengthBytes);
        if (chain.gatheredBytes !== lengthBytes) return this.#inPieces(token, true, offset, lengthBytes);
        return disk.read(token, chain.iovec, count, lengthBytes, offset);
      }
      case VIRTIO_BLK_T_OUT: {
        this.#turnBytes += lengthBytes;
        const count = chain.gather(false, RequestHeader.size, lengthBytes);
        if (chain.gatheredBytes !== lengthBytes) return this.#inPieces(token, false, offset, lengthBytes);
        return disk.write(token, chain.iovec, count, lengthBytes, offset);
      }
      case VIRTIO_BLK_T_FLUSH:
        return disk.flush(token);
      case VIRTIO_BLK_T_DISCARD:
        return disk.discard(token, offset, lengthBytes);
      case VIRTIO_BLK_T_WRITE_ZEROES:
        return disk.writeZeroes(token, offset, lengthBytes, this.#request.mayUnmap);
      default:
        return -EINVAL;
    }
  }

  /** A transfer with more segments than one call takes: whole sectors at a time, each waited for. */
  #inPieces(token: number, isRead: boolean, offset: number, lengthBytes: number): number {
    const chain = this.#chain;
    let done = 0;
    while (done < lengthBytes) {
      const at = isRead ? done : RequestHeader.size + done;
      chain.gather(isRead, at, lengthBytes - done);
      const size = chain.gatheredBytes - chain.gatheredBytes % SECTOR_BYTES;
      if (size === 0) return -EINVAL;
      const count = chain.gather(isRead, at, size);
      const result = isRead
        ? this.#disk.read(token, chain.iovec, count, size, offset + done)
        : this.#disk.write(token, chain.iovec, count, size, offset + done);
      const got = result === IO_PENDING ? this.#waitFor(token) : result;
      if (got !== size) return got < 0 ? got : done + got;
      done += size;
    }
    return done;
  }

  #waitFor(token: number): number {
    this.#pieceToken = token;
    this.#finishPending();
    this.#pieceToken = -1;
    return this.#pieceResult;
  }

  /** An operation has come back from the disk. */
  readonly #completed = (token: number, result: number): void => {
    if (token === this.#pieceToken) {
      this.#pieceResult = result;
      return;
    }
    const lengthBytes = this.#length[token];
    let outcome = result;
    if (this.#state[token] === THROUGH_WRITE && result === lengthBytes) {
      const flushed = this.#disk.flush(token);
      this.#state[token] = THROUGH_FLUSH;
      if (flushed === IO_PENDING) return;
      outcome = flushed;
    }
    if (this.#state[token] === THROUGH_FLUSH && outcome >= 0) outcome = lengthBytes;
    this.#state[token] = IDLE;
    this.#pending--;
    const type = this.#type[token];
    const index = this.#queueOf[token];
    const status = this.#account(type, lengthBytes, outcome);
    this.#counters.publish((this.#nowUs() - this.#startUs[token]) & CLOCK_MASK);
    this.#activation.memory.writeU8(this.#statusAddress[token], status);
    this.#answer(index, token - this.#firstToken[index], type, lengthBytes, status);
  };

  /** Notes a result in the counters; returns the status byte for it. */
  #account(type: number, lengthBytes: number, result: number): number {
    const isTransfer = type === VIRTIO_BLK_T_IN || type === VIRTIO_BLK_T_OUT;
    if (result < 0 || (isTransfer && result !== lengthBytes)) {
      this.#report(type, result);
      return VIRTIO_BLK_S_IOERR;
    }
    if (type === VIRTIO_BLK_T_IN) this.#counters.read(lengthBytes);
    else if (type === VIRTIO_BLK_T_OUT) this.#counters.write(lengthBytes);
    return VIRTIO_BLK_S_OK;
  }

  #answer(index: number, head: number, type: number, lengthBytes: number, status: number): void {
    const written = type === VIRTIO_BLK_T_IN && status === VIRTIO_BLK_S_OK ? lengthBytes + 1 : 1;
    this.#activation.queues[index].push(head, written);
    this.#unpublished[index] = 1;
  }

  #publish(index: number): void {
    if (this.#unpublished[index] === 0) return;
    this.#unpublished[index] = 0;
    if (this.#activation.queues[index].publish()) this.#activation.interruptQueue(index);
  }

  #reap(): void {
    this.#disk.reap(this.#completed);
    this.#disk.submit();
    for (let index = 0; index < this.#unpublished.length; index++) this.#publish(index);
  }

  #finishPending(): void {
    this.#disk.drain(this.#completed);
    for (let index = 0; index < this.#unpublished.length; index++) this.#publish(index);
  }

  /** Looks at every queue again in a while: the limiter refills, or the turn is over. */
  #again(delayMs: number): void {
    if (this.#cancelTimer !== undefined) return;
    this.#cancelTimer = this.#activation.env.timer(delayMs, () => {
      this.#cancelTimer = undefined;
      if (this.#paused || this.#stopped) return;
      this.#readCacheMode();
      for (let index = 0; index < this.#activation.queues.length && !this.#stopped; index++) {
        this.#serve(index);
      }
    });
  }

  /** The driver chooses between write-back and write-through, if it negotiated that (§5.2.5.2). */
  #readCacheMode(): void {
    const { featuresLow, featuresHigh, config } = this.#activation;
    const flush = hasFeature(featuresLow, featuresHigh, VIRTIO_BLK_F_FLUSH);
    const chooses = hasFeature(featuresLow, featuresHigh, VIRTIO_BLK_F_CONFIG_WCE);
    this.#writeback = flush && (!chooses || config[BlockConfig.writeback] === 1);
  }

  #break(fault: string): void {
    this.#stopped = true;
    this.#activation.fail({ fault });
  }

  /** A failing disk or a driver's nonsense is told once a second at most. */
  #report(type: number, result: number): void {
    const now = this.#nowUs();
    if (this.#hasReported && ((now - this.#lastReportUs) & CLOCK_MASK) < REPORT_INTERVAL_US) {
      this.#unreported++;
      return;
    }
    this.#hasReported = true;
    this.#lastReportUs = now;
    const leftOut = this.#unreported;
    this.#unreported = 0;
    const text = result < 0 ? `errno ${-result}` : `short transfer of ${result} bytes`;
    this.#activation.env.post({
      kind: "log",
      level: "warn",
      key: `${this.#activation.id} request`,
      text: `${this.#activation.id}: block request of type ${type} failed: ${text}`,
      leftOut,
    });
  }
}

/**
 * A block device on a mock driver's queue, for tests.
 *
 * L4, tests only.
 */
import { RateLimiter } from "@vmm/base/rate_limiter.ts";
import type { Activation, GuestFault, QueueHandler } from "@vmm/virtio/device.ts";
import { featureMask } from "@vmm/virtio/features.ts";
import { MockDriver, type MockOptions } from "@vmm/virtio/testing/mock_driver.ts";
import { createBlockCounters } from "../counters.ts";
import { type BlockBackend, createBlockHandler } from "../handler.ts";
import { blockModel } from "../model.ts";
import { VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_F_FLUSH } from "../spec.ts";
import { FakeDisk } from "./fake_disk.ts";

/** What a test may change. */
export interface RigOptions extends MockOptions {
  readonly diskBytes?: number;
  readonly backend?: Partial<BlockBackend>;
  readonly features?: bigint;
}

/** One queue, a fake disk, and what the handler did to its surroundings. */
export class BlockRig {
  readonly driver: MockDriver;
  readonly disk: FakeDisk;
  readonly handler: QueueHandler;
  readonly config: Uint8Array;
  readonly counters = createBlockCounters();
  readonly faults: GuestFault[] = [];
  readonly posted: { kind: string }[] = [];
  readonly timers: { delayMs: number; fire: () => void }[] = [];
  queueInterrupts = 0;
  configInterrupts = 0;
  nowUs = 1_000_000;

  constructor(options: RigOptions = {}) {
    this.driver = new MockDriver({ size: 64, ...options });
    this.disk = new FakeDisk(this.driver.memory, options.diskBytes ?? 1 << 20);
    const features = options.features ?? featureMask(VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_CONFIG_WCE);
    this.config = blockModel({
      sizeBytes: this.disk.sizeBytes,
      readonly: false,
      canZero: true,
      sparse: true,
      numQueues: 1,
      queueSize: 64,
      iommu: false,
      topology: { logical: 512, physical: 512, minimumIo: 512, optimalIo: 0 },
    }).config;
    const backend: BlockBackend = {
      image: undefined,
      readonly: false,
      protectSectorZero: false,
      discard: true,
      writeZeroes: true,
      serial: new TextEncoder().encode("serial-of-20-bytes.."),
      counters: this.counters,
      ...options.backend,
    };
    const activation: Activation<BlockBackend> = {
      id: "_disk0",
      memory: this.driver.memory,
      queues: [this.driver.queue()],
      featuresLow: Number(features & 0xffff_ffffn),
      featuresHigh: Number(features >> 32n),
      backend,
      config: this.config,
      env: {
        watch: () => {},
        rewatch: () => {},
        unwatch: () => {},
        timer: (delayMs, fire) => {
          const timer = { delayMs, fire };
          this.timers.push(timer);
          return () => this.timers.splice(this.timers.indexOf(timer), 1);
        },
        post: (event) => this.posted.push(event),
      },
      interruptQueue: () => this.queueInterrupts++,
      interruptConfig: () => this.configInterrupts++,
      fail: (fault) => this.faults.push(fault),
    };
    this.handler = createBlockHandler(activation, {
      disk: this.disk,
      limiter: backend.limiter && new RateLimiter(backend.limiter, () => this.nowUs / 1000),
      nowUs: () => this.nowUs,
    });
  }

  /** Submits a request: header, `payload`, room for `receive` bytes and a status. Returns its head and addresses. */
  submit(type: number, sector: number | bigint, payload = new Uint8Array(0), receive = 0): Submitted {
    const header = new DataView(new ArrayBuffer(16));
    header.setUint32(0, type, true);
    header.setBigUint64(8, BigInt(sector), true);
    const { head, addresses } = this.driver.submit([
      { send: new Uint8Array(header.buffer) },
      ...(payload.byteLength > 0 ? [{ send: payload }] : []),
      ...(receive > 0 ? [{ receive }] : []),
      { receive: 1 },
    ]);
    const status = addresses[addresses.length - 1];
    this.driver.at(status, 1)[0] = NOT_ANSWERED;
    return { head, data: addresses[1], status };
  }

  /** Submits, kicks, and takes the answer. */
  request(type: number, sector: number | bigint, payload?: Uint8Array<ArrayBuffer>, receive = 0): Answer {
    const submitted = this.submit(type, sector, payload, receive);
    this.handler.onKick(0);
    return this.answer(submitted, receive);
  }

  /** The answer to a request; undefined fields if the driver was shown none. */
  answer(submitted: Submitted, receive = 0): Answer {
    const completion = this.driver.complete();
    if (completion !== undefined && completion.head !== submitted.head) {
      throw new Error(`head ${completion.head} came back instead of ${submitted.head}`);
    }
    return {
      status: completion && this.driver.at(submitted.status, 1)[0],
      writtenBytes: completion?.writtenBytes,
      data: this.driver.at(submitted.data, receive).slice(),
    };
  }
}

/** Value of a status byte before the device wrote it. */
export const NOT_ANSWERED = 0xee;

export interface Submitted {
  readonly head: number;
  readonly data: number;
  readonly status: number;
}

export interface Answer {
  readonly status: number | undefined;
  readonly writtenBytes: number | undefined;
  readonly data: Uint8Array;
}

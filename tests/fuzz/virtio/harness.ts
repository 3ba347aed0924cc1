/**
 * Runs a device with a hostile driver: real transport, real runner, real handler; ports and time are the test's.
 *
 * Tests only. After everything the driver does, the device is either served or broken in the one allowed way:
 * DEVICE_NEEDS_RESET, one log line, nothing left running. A reset and a proper driver bring it back.
 */
import assert from "node:assert/strict";
import type { Random } from "@tests/differential/bodies.ts";
import type { HandlerFactory, IoEnvironment } from "@vmm/virtio/device.ts";
import type { EndpointDescription } from "@vmm/virtio/iommu/translation.ts";
import { Lifecycle, type VirtioPciState } from "@vmm/virtio/pci/block.ts";
import { createVirtioPci, type VirtioPciDescription } from "@vmm/virtio/pci/create.ts";
import { VirtioPciFunction } from "@vmm/virtio/pci/function.ts";
import { Common, NOTIFY_OFFSET, STATUS_READY, VIRTIO_STATUS_NEEDS_RESET } from "@vmm/virtio/pci/layout.ts";
import { DeviceRunner } from "@vmm/virtio/runner.ts";
import type { MockBuffer } from "@vmm/virtio/testing/mock_driver.ts";
import { HostileDriver } from "./hostile_driver.ts";

/** What a device looks like to its back-end's fake. */
export interface Surroundings {
  readonly random: Random;
  readonly driver: HostileDriver;
  /** To be called by ports: the guest changes memory while the device is at work, and a device that spins is found. */
  busy(): void;
}

/** A device kind and how to tease it. */
export interface Subject {
  readonly model: Omit<VirtioPciDescription, "bar">;
  readonly start: HandlerFactory;
  /** A sensible request for a queue. */
  request(queue: number): MockBuffer[];
  /** A request the device answers without anything happening on the host; undefined when there is none. */
  readonly probe?: {
    readonly queue: number;
    readonly buffers: () => MockBuffer[];
    readonly prepare?: () => void;
  };
  /** A device that does not use guest physical addresses. */
  readonly endpoint?: EndpointDescription;
  /** From now on everything goes well. */
  calmDown?(): void;
  /** Something happens on the host: input, a completion, an order of main. */
  happen?(orders: (command: { kind: string } & Record<string, unknown>) => unknown): void;
}

/** Makes a subject with fakes that use the surroundings. */
export type SubjectFactory = (around: Surroundings) => Subject;

const STEPS = 40;
const MAX_QUEUE = 64;
/** Calls of ports and callbacks in one step: more is a device that spins. */
const MAX_CALLS = 20_000;
const MAX_WATCHES = 64;
const MAX_TIMERS = 64;
const VECTORS = 4;

class Bench {
  readonly driver: HostileDriver;
  readonly state: VirtioPciState;
  readonly subject: Subject;
  readonly runner: DeviceRunner;
  readonly registers;
  readonly logs: { text: string }[] = [];
  readonly watches = new Map<number, { events: number; ready: (events: number) => void }>();
  readonly timers = new Set<() => void>();
  #calls = 0;
  #failures = 0;

  constructor(readonly random: Random, factory: SubjectFactory) {
    this.driver = new HostileDriver(random);
    this.subject = factory({
      random,
      driver: this.driver,
      busy: () => {
        if (++this.#calls > MAX_CALLS) throw new Error("The device spins");
        this.driver.disturb();
      },
    });
    this.state = createVirtioPci({ ...this.subject.model, bar: { kind: "memory64", base: 2 ** 40 } });
    const env: IoEnvironment = {
      watch: (fd, events, ready) => void this.watches.set(fd, { events, ready }),
      rewatch: (fd, events) => {
        const watch = this.watches.get(fd);
        if (watch !== undefined) watch.events = events;
      },
      unwatch: (fd) => void this.watches.delete(fd),
      timer: (_delayMs, fire) => {
        const timer = () => fire();
        this.timers.add(timer);
        return () => void this.timers.delete(timer);
      },
      post: (event) => {
        if (event.kind === "log") this.logs.push({ text: String(event.text) });
      },
    };
    const interrupts = { signal: () => true };
    this.runner = new DeviceRunner(
      {
        id: "_fuzzed",
        kind: "fuzzed",
        block: this.state.buffer,
        kickFds: [],
        backend: undefined,
        iommu: this.subject.endpoint,
      },
      this.subject.start,
      { memory: this.driver.memory, interrupts, env },
    );
    this.registers = new VirtioPciFunction(this.state.buffer, {
      moves: { relocate: () => true, moved: () => {} },
      interrupts,
      // A reset waits for the other thread; otherwise the caller holds the lock which that thread would wait for.
      wake: { wake: () => this.state.lifecycle === Lifecycle.reset && this.runner.poll() },
    }).bar(0)!;
  }

  /** Negotiates and starts as a driver does, perhaps without some features, queues or with rings in bad places. */
  start(proper: boolean): void {
    const { random, driver, registers } = this;
    const { features, queueSizes } = this.subject.model;
    registers.write(Common.status, 1, 0);
    assert.equal(registers.read(Common.status, 1), 0, "a reset device has no status");
    registers.write(Common.status, 1, 1);
    registers.write(Common.status, 1, 3);
    const accepted = proper || random.chance(0.7)
      ? features
      : features & (1n << 32n | BigInt(random.below(2 ** 31)));
    for (const word of [0, 1]) {
      registers.write(Common.driverFeatureSelect, 4, word);
      registers.write(Common.driverFeature, 4, Number(accepted >> BigInt(32 * word) & 0xffff_ffffn));
    }
    registers.write(Common.status, 1, 0x0b);
    driver.layOut(queueSizes.map((size) => {
      const wanted = Math.min(size, MAX_QUEUE);
      return proper ? wanted : Math.max(1, wanted >> random.below(4));
    }));
    if (!proper && random.chance(0.1)) driver.misplaceRings();
    driver.rings.forEach((rings, index) => {
      if (!proper && random.chance(0.05)) return; // a queue left out
      registers.write(Common.queueSelect, 2, index);
      registers.write(
        Common.queueSize,
        2,
        !proper && random.chance(0.02) ? random.below(0x1_0000) : rings.size,
      );
      registers.write(Common.queueVector, 2, random.below(VECTORS));
      for (
        const [low, gpa] of [
          [Common.queueDescLow, rings.descriptors],
          [Common.queueDriverLow, rings.driver],
          [Common.queueDeviceLow, rings.device],
        ]
      ) {
        registers.write(low, 4, gpa % 2 ** 32);
        registers.write(low + 4, 4, Math.floor(gpa / 2 ** 32) >>> 0);
      }
      registers.write(Common.queueEnable, 2, 1);
    });
    registers.write(Common.status, 1, STATUS_READY);
    this.runner.poll();
    this.settle();
    if (proper) assert.equal(this.state.lifecycle, Lifecycle.active, "a proper driver starts the device");
  }

  /** One thing the driver or the host does, and what comes of it. */
  step(): void {
    const { random, driver, runner } = this;
    this.#calls = 0;
    const queue = random.below(driver.rings.length);
    switch (random.below(12)) {
      case 0:
      case 1:
      case 2:
        driver.misbehave(queue);
        break;
      case 3:
        this.subject.happen?.((command) => runner.command(command));
        break;
      case 4: {
        runner.pause();
        assert.equal(
          [...this.watches.values()].some(({ events }) => events !== 0),
          false,
          "silent while paused",
        );
        driver.disturb();
        runner.resume();
        break;
      }
      case 5: { // registers nobody should touch now
        const offset = random.pick([
          0x00,
          0x08,
          0x0c,
          0x10,
          0x16,
          0x18,
          0x1a,
          0x1c,
          0x20,
          0x28,
          0x30,
          0x4000,
        ]);
        this.registers.write(offset, random.pick([1, 2, 4]), random.below(256));
        break;
      }
      default:
        driver.submit(queue, this.subject.request(queue), random.chance(0.2));
        if (random.chance(0.3)) driver.disturb();
    }
    if (random.chance(0.5)) runner.kick(queue);
    else {
      this.registers.write(NOTIFY_OFFSET + 4 * queue, 2, queue);
      runner.poll();
    }
    this.settle();
    this.check();
  }

  /** Lets what is due on the host happen for a few turns. */
  settle(): void {
    for (let turn = 0; turn < 4; turn++) {
      const timers = [...this.timers];
      for (const timer of timers) {
        if (this.timers.delete(timer)) timer();
      }
      for (const [fd, watch] of [...this.watches]) {
        if (watch.events !== 0 && this.watches.get(fd) === watch) watch.ready(watch.events);
      }
      if (timers.length === 0) return;
    }
  }

  check(): void {
    const bug = this.logs.find(({ text }) => text.startsWith('Device "_fuzzed" failed'));
    assert.equal(bug, undefined, bug?.text);
    assert.ok(this.watches.size <= MAX_WATCHES, `${this.watches.size} watched descriptors`);
    assert.ok(this.timers.size <= MAX_TIMERS, `${this.timers.size} timers`);
    const { lifecycle, status, faults } = this.state;
    const broken = lifecycle === Lifecycle.failed;
    assert.ok(broken || lifecycle === Lifecycle.active || lifecycle === Lifecycle.idle, `state ${lifecycle}`);
    assert.equal((status & VIRTIO_STATUS_NEEDS_RESET) !== 0, broken);
    assert.equal(this.runner.active, lifecycle === Lifecycle.active);
    const told = this.logs.filter(({ text }) => text.includes("needs a reset")).length;
    assert.equal(told, faults, "each failure is told once");
    if (!broken) return;
    assert.equal(this.watches.size, 0, "a broken device watches nothing");
    assert.equal(this.timers.size, 0, "a broken device waits for nothing");
    this.#failures++;
  }

  get broken(): boolean {
    return this.state.lifecycle !== Lifecycle.active;
  }

  /** How often the device was seen broken. */
  get failures(): number {
    return this.#failures;
  }

  /** A proper driver gets a proper answer. */
  probe(): void {
    const { probe } = this.subject;
    this.#calls = 0;
    this.driver.calm = true;
    this.subject.calmDown?.();
    this.start(true);
    if (probe === undefined) return;
    this.driver.submit(probe.queue, probe.buffers());
    this.runner.kick(probe.queue);
    this.settle();
    this.check();
    assert.equal(this.driver.usedIndex(probe.queue), 1, "a proper request is answered");
  }
}

/** Lets a hostile driver have a device, once; with a good one at the end. @returns how often it was broken */
export function torment(random: Random, factory: SubjectFactory): number {
  const bench = new Bench(random, factory);
  bench.start(false);
  bench.check();
  for (let i = 0; i < STEPS; i++) {
    if (bench.broken && random.chance(0.5)) bench.start(false);
    bench.step();
  }
  bench.probe();
  bench.runner.remove();
  assert.deepEqual([bench.watches.size, bench.timers.size], [0, 0], "a removed device leaves nothing behind");
  return bench.failures;
}

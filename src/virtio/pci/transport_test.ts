import assert from "node:assert/strict";
import type { BarMoves } from "@vmm/pci/function.ts";
import { Lifecycle, QUEUE_WORDS, QueueWord, resetRegisters, type VirtioPciState } from "./block.ts";
import { createVirtioPci } from "./create.ts";
import { VirtioPciFunction } from "./function.ts";
import { Common } from "./layout.ts";

const moves: BarMoves = { relocate: () => true, moved: () => {} };

function device(config = new Uint8Array(0), onWake: (state: VirtioPciState) => void = () => {}) {
  const state = createVirtioPci({
    virtioId: 4,
    queueSizes: [256, 64],
    features: (1n << 32n) | (1n << 29n),
    config,
    configWritable: Uint8Array.of(0, 0xff),
    bar: { kind: "memory64", base: 0x3fff_f680_0000 },
  });
  const sent: number[] = [];
  const log = { wakes: 0, sent };
  const fn = new VirtioPciFunction(state.buffer, {
    moves,
    interrupts: { signal: (_low, _high, data) => sent.push(data) > 0 },
    wake: {
      wake: () => {
        log.wakes++;
        onWake(state);
      },
    },
  });
  return { state, fn, bar: fn.bar(0)!, log };
}

/** A device whose driver has said hello. */
function acknowledged(...options: Parameters<typeof device>) {
  const made = device(...options);
  made.bar.write(Common.status, 1, 1);
  return made;
}

/** Negotiates and starts the way Linux does. */
function start({ bar }: ReturnType<typeof device>): void {
  for (const status of [1, 3]) bar.write(Common.status, 1, status);
  bar.write(Common.driverFeatureSelect, 4, 1);
  bar.write(Common.driverFeature, 4, 1);
  bar.write(Common.status, 1, 0x0b);
  bar.write(Common.queueSelect, 2, 0);
  bar.write(Common.queueDescLow, 4, 0x1000);
  bar.write(Common.queueEnable, 2, 1);
  bar.write(Common.status, 1, 0x0f);
}

Deno.test("createVirtioPci() builds the capabilities the original shows for a device without config", () => {
  const { state } = device();
  const words = (at: number, n: number) => [...state.config.subarray(at, at + n)];
  assert.deepEqual(words(0, 16), [0xf4, 0x1a, 0x44, 0x10, 0, 0, 0x10, 0, 1, 0, 0xff, 0xff, 0, 0, 0, 0]);
  assert.deepEqual(words(0x10, 8), [4, 0, 0x80, 0xf6, 0xff, 0x3f, 0, 0]);
  assert.deepEqual(words(0x2c, 4), [0xf4, 0x1a, 0x44, 0x10]);
  assert.deepEqual(words(0x40, 16), [9, 0x50, 16, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x38, 0, 0, 0]);
  assert.deepEqual(words(0x50, 16), [9, 0x60, 16, 3, 0, 0, 0, 0, 0, 0x20, 0, 0, 1, 0, 0, 0]);
  assert.deepEqual(words(0x60, 20), [9, 0x74, 20, 2, 0, 0, 0, 0, 0, 0x60, 0, 0, 0, 0x10, 0, 0, 4, 0, 0, 0]);
  assert.deepEqual(words(0x74, 20), [9, 0x88, 20, 5, ...new Array(16).fill(0)]);
  assert.deepEqual(words(0x88, 12), [0x11, 0, 2, 0x80, 0, 0x80, 0, 0, 0, 0x80, 4, 0]);
});

Deno.test("createVirtioPci() lists the config window when there is a config", () => {
  const { state } = device(new Uint8Array(8));
  assert.deepEqual([...state.config.subarray(0x60, 0x64)], [9, 0x70, 16, 4]);
});

Deno.test("common config answers reads of the register's width", () => {
  const { bar } = acknowledged();
  assert.equal(bar.read(Common.numQueues, 2), 2);
  assert.equal(bar.read(Common.configVector, 2), 0xffff);
  assert.equal(bar.read(Common.queueSize, 2), 256);
  bar.write(Common.queueSelect, 2, 1);
  assert.equal(bar.read(Common.queueSize, 2), 64);
  assert.equal(bar.read(Common.queueNotifyOff, 2), 1);
  bar.write(Common.queueSelect, 2, 2);
  assert.equal(bar.read(Common.queueSize, 2), 0);
  assert.equal(bar.read(Common.queueVector, 2), 0xffff);
  bar.write(Common.deviceFeatureSelect, 4, 1);
  assert.equal(bar.read(Common.deviceFeature, 4), 1);
  bar.write(Common.deviceFeatureSelect, 4, 7);
  assert.equal(bar.read(Common.deviceFeature, 4), 0);
  assert.equal(bar.read(Common.driverFeature, 4), 0);
  assert.equal(bar.read(Common.status, 4), 0);
});

Deno.test("common config stays as it was until a driver acknowledges the device", () => {
  const { bar } = device();
  bar.write(Common.queueSize, 2, 16);
  bar.write(Common.deviceFeatureSelect, 4, 1);
  assert.equal(bar.read(Common.queueSize, 2), 256);
  assert.equal(bar.read(Common.deviceFeatureSelect, 4), 0);
});

Deno.test("queue sizes must be powers of two within the maximum", () => {
  const { bar } = acknowledged();
  for (const size of [0, 3, 512]) bar.write(Common.queueSize, 2, size);
  assert.equal(bar.read(Common.queueSize, 2), 256);
  bar.write(Common.queueSize, 2, 128);
  assert.equal(bar.read(Common.queueSize, 2), 128);
});

Deno.test("a vector that does not exist reads back as none", () => {
  const { bar } = acknowledged();
  bar.write(Common.configVector, 2, 2);
  assert.equal(bar.read(Common.configVector, 2), 2);
  bar.write(Common.configVector, 2, 3);
  assert.equal(bar.read(Common.configVector, 2), 0xffff);
});

Deno.test("FEATURES_OK is refused without VERSION_1", () => {
  const { bar } = device();
  bar.write(Common.status, 1, 3);
  bar.write(Common.status, 1, 0x0b);
  assert.equal(bar.read(Common.status, 1), 3);
});

Deno.test("DRIVER_OK with an enabled queue asks the I/O Worker to start the device", () => {
  const d = device();
  start(d);
  assert.equal(d.bar.read(Common.status, 1), 0x0f);
  assert.equal(d.state.lifecycle, Lifecycle.activate);
  assert.equal(d.log.wakes, 1);
  d.bar.write(Common.queueDescLow, 4, 0x9000);
  d.bar.write(Common.queueSize, 2, 16);
  assert.equal(d.state.queues[QueueWord.descLow], 0x1000);
  assert.equal(d.state.queues[QueueWord.size], 256);
});

Deno.test("a device without an enabled queue starts when one is enabled", () => {
  const d = device();
  start({
    ...d,
    bar: {
      ...d.bar,
      read: () => 0,
      write: (o, s, v) => o === Common.queueEnable ? undefined : d.bar.write(o, s, v),
    },
  });
  assert.equal(d.state.lifecycle, Lifecycle.idle);
  d.bar.write(Common.queueEnable, 2, 1);
  assert.equal(d.state.lifecycle, Lifecycle.activate);
});

Deno.test("a reset of a started device waits for the I/O Worker", () => {
  const d = device(undefined, (state) => {
    if (state.lifecycle !== Lifecycle.reset) return;
    resetRegisters(state);
    state.lifecycle = Lifecycle.idle;
  });
  start(d);
  d.bar.write(Common.status, 1, 0);
  assert.equal(d.bar.read(Common.status, 1), 0);
  assert.equal(d.state.queues[QueueWord.enabled], 0);
  assert.equal(d.log.wakes, 2);
});

Deno.test("a reset nobody acknowledges keeps the old status", () => {
  const d = device();
  const slow = new VirtioPciFunction(d.state.buffer, {
    moves,
    interrupts: { signal: () => true },
    wake: { wake: () => {} },
  });
  start(d);
  d.state.lifecycle = Lifecycle.reset; // as after a wait that timed out
  slow.bar(0)!.write(Common.status, 1, 3);
  slow.bar(0)!.write(Common.queueSelect, 2, 1);
  assert.equal(d.bar.read(Common.status, 1), 0x0f);
  assert.equal(d.state.queueSelect, 0);
});

Deno.test("a notification without ioeventfd sets the queue's kick word", () => {
  const { bar, state, log } = device();
  bar.write(0x6004, 2, 1);
  bar.write(0x6008, 4, 2);
  assert.equal(state.queues[QUEUE_WORDS + QueueWord.kick], 1);
  assert.deepEqual([state.kicked, log.wakes], [1, 1]);
});

Deno.test("device config takes writes to writable bytes only and reads zeros past its end", () => {
  const { bar } = device(Uint8Array.of(1, 2, 3));
  bar.write(0x4000, 4, 0xaabb_ccdd);
  bar.write(0x4001, 2, 0xaabb);
  assert.equal(bar.read(0x4000, 4), 0x0003_0201);
  bar.write(0x4001, 1, 0xcc);
  assert.equal(bar.read(0x4000, 4), 0x0003_cc01);
  assert.equal(bar.read(0x4ffc, 4), 0);
});

Deno.test("the access capability reaches BAR0 through configuration space", () => {
  const { fn, state } = device();
  const cap = state.configAccess;
  fn.writeConfig(cap + 8, 4, Common.numQueues);
  fn.writeConfig(cap + 12, 4, 2);
  assert.equal(fn.readConfig(cap + 16, 4), 2);
  fn.writeConfig(cap + 8, 4, Common.status);
  fn.writeConfig(cap + 12, 4, 1);
  fn.writeConfig(cap + 16, 4, 0xffff_ff03);
  assert.equal(state.status, 3);
  fn.writeConfig(cap + 12, 4, 3);
  assert.equal(fn.readConfig(cap + 16, 4), 0);
  fn.writeConfig(cap + 12, 4, 4);
  fn.writeConfig(cap + 8, 4, 0xffff_fffc);
  assert.equal(fn.readConfig(cap + 16, 4), 0);
  fn.writeConfig(cap, 4, 0xffff_ffff);
  assert.equal(fn.readConfig(cap, 4), 0x0514_8809);
});

Deno.test("enabling MSI-X in configuration space sends what is pending", () => {
  const { fn, bar, state, log } = device();
  const control = state.msixCapability + 2;
  fn.writeConfig(control, 2, 0xc000);
  bar.write(0x8008, 4, 0x55);
  bar.write(0x800c, 4, 0);
  state.msixPending[0] = 1;
  fn.writeConfig(control, 2, 0x8000);
  assert.deepEqual(log.sent, [0x55]);
  assert.equal(bar.read(0x48000, 4), 0);
  assert.equal(fn.readConfig(control, 2), 0x8002);
});

Deno.test("offsets that name no register read as zero", () => {
  const { bar } = device();
  for (const offset of [0x38, 0x2000, 0x3000, 0x6000, 0x7ffc, 0x7_fffc]) assert.equal(bar.read(offset, 4), 0);
  bar.write(0x7_fffc, 4, 1);
});

Deno.test("random accesses to BAR0 and configuration space never throw and stay in range", () => {
  const { fn, bar } = device(new Uint8Array(60), (state) => {
    if (state.lifecycle === Lifecycle.reset) state.lifecycle = Lifecycle.idle;
  });
  let seed = 99;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fff_ffff;
    return seed % below;
  };
  const areas = [0, 0x2000, 0x4000, 0x6000, 0x8000, 0x4_8000, 0x7_ffc0];
  for (let i = 0; i < 20_000; i++) {
    const size = ([1, 2, 4] as const)[random(3)];
    const value = random(3) === 0
      ? random(64)
      : (random(0x1_0000) * 0x1_0000 + random(0x1_0000)) % 2 ** (8 * size);
    const inConfig = random(4) === 0;
    const offset = inConfig ? random(0x100) : areas[random(areas.length)] + random(0x40 - size + 1);
    if (random(2) === 0) {
      if (inConfig) fn.writeConfig(offset, size, value);
      else bar.write(offset, size, value);
    } else {
      const read = inConfig ? fn.readConfig(offset, size) : bar.read(offset, size);
      assert.ok(Number.isInteger(read) && read >= 0 && read < 2 ** (8 * size), `${offset}: ${read}`);
    }
  }
});

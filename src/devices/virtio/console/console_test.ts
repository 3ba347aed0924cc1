import assert from "node:assert/strict";
import type { CharDevice, CharInput, WindowSize } from "@vmm/bus/char_device.ts";
import type { Activation, GuestFault, QueueHandler } from "@vmm/virtio/device.ts";
import { MockDriver, type MockOptions } from "@vmm/virtio/testing/mock_driver.ts";
import { CONSOLE_RESIZED, createConsoleHandler } from "./handler.ts";
import { ConsoleConfigLayout, consoleModel } from "./model.ts";

/** A host end that keeps what it gets, and gives input like a link does. */
class Host implements CharDevice {
  output = "";
  size: WindowSize | undefined;
  resized: (() => void) | undefined;
  input: CharInput | undefined;
  waiting: number[] = [];
  #heldBack = false;

  write(bytes: Uint8Array, length: number): void {
    this.output += new TextDecoder().decode(bytes.subarray(0, length));
  }
  setInput(input: CharInput | undefined): void {
    this.input = input;
    this.#heldBack = false;
    this.#pump();
  }
  resumeInput(): void {
    if (!this.#heldBack) return;
    this.#heldBack = false;
    this.#pump();
  }
  type(text: string): void {
    this.waiting.push(...new TextEncoder().encode(text));
    this.#pump();
  }
  #pump(): void {
    while (this.input !== undefined && this.waiting.length > 0 && !this.#heldBack) {
      const room = this.input.room();
      if (room === 0) {
        this.#heldBack = true;
        return;
      }
      const bytes = Uint8Array.from(this.waiting.splice(0, room));
      this.input.push(bytes, bytes.length);
    }
  }
  windowSize(): WindowSize | undefined {
    return this.size;
  }
  onResize(changed: (() => void) | undefined): void {
    this.resized = changed;
  }
}

function console(options: { size?: WindowSize; features?: number; receive?: MockOptions } = {}) {
  const receive = new MockDriver(options.receive);
  const transmit = new MockDriver();
  const host = new Host();
  host.size = options.size;
  const log: (number | string)[] = [];
  const timers: (() => void)[] = [];
  const config = consoleModel({ iommu: false }).config.slice();
  const queues = [receive.queue(), transmit.queue()];
  const activation = {
    id: "_console0",
    memory: receive.memory,
    queues,
    featuresLow: options.features ?? 1,
    featuresHigh: 1,
    backend: undefined,
    env: {
      timer: (_delayMs: number, fire: () => void) => {
        timers.push(fire);
        return () => void timers.splice(timers.indexOf(fire), 1);
      },
    },
    config,
    interruptQueue: (index: number) => log.push(index),
    interruptConfig: () => log.push("config"),
    fail: (fault: GuestFault) => log.push(fault.fault),
  } as unknown as Activation;
  const handler: QueueHandler = createConsoleHandler(activation, { device: host });
  return { handler, receive, transmit, host, log, timers, config, queues };
}

const send = (text: string) => ({ send: new TextEncoder().encode(text) });

function received(driver: MockDriver, addresses: number[]): string[] {
  return addresses.map((at) => {
    const done = driver.complete();
    return done === undefined ? "" : new TextDecoder().decode(driver.at(at, done.writtenBytes));
  });
}

Deno.test("consoleModel() has the original's queues, features and config", () => {
  const model = consoleModel({ windowSize: { columns: 300, rows: 50 }, iommu: false });
  assert.equal(model.virtioId, 3);
  assert.deepEqual(model.queueSizes, [256, 256]);
  assert.equal(model.features, 1n << 32n | 1n);
  assert.deepEqual([...model.config], [44, 1, 50, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
  assert.equal(consoleModel({ iommu: true }).features, 1n << 33n | 1n << 32n | 1n);
});

Deno.test("output of several buffers goes to the host in order", () => {
  const { handler, transmit, host, log } = console();
  transmit.submit([send("Hello, "), send("world")]);
  transmit.submit([send("!\n")]);
  handler.onKick(1);
  assert.equal(host.output, "Hello, world!\n");
  assert.deepEqual(log, [1]);
  assert.deepEqual(transmit.complete(), { head: 0, writtenBytes: 0 });
  assert.notEqual(transmit.complete(), undefined);
});

Deno.test("long output is written in turns, and drain() finishes what was begun", () => {
  const { handler, transmit, host, timers } = console();
  const text = "0123456789abcdef".repeat(40_000 / 16);
  for (let i = 0; i < 8; i++) transmit.submit([send(text)]);
  handler.onKick(1);
  assert.equal(timers.length, 1);
  assert.ok(host.output.length >= 256 << 10 && host.output.length < 8 * text.length);
  handler.onKick(1);
  assert.equal(timers.length, 1);
  timers.shift()!();
  assert.equal(host.output, text.repeat(8));
  transmit.submit([send("x".repeat(300_000))]);
  handler.onKick(1);
  handler.drain();
  assert.equal(timers.length, 0);
  assert.equal(host.output.length, 8 * text.length + 300_000);
  for (let i = 0; i < 9; i++) assert.notEqual(transmit.complete(), undefined);
});

Deno.test("input fills the driver's buffers and waits in the host without them", () => {
  const { handler, receive, host, log } = console();
  handler.onKick(0);
  host.type("early bird");
  assert.deepEqual(log, []);
  const one = receive.submit([{ receive: 6 }]);
  const two = receive.submit([{ receive: 2 }, { receive: 30 }]);
  handler.onKick(0);
  assert.deepEqual(received(receive, [one.addresses[0]]), ["early "]);
  const second = receive.complete()!;
  assert.deepEqual(second, { head: two.head, writtenBytes: 4 });
  assert.equal(new TextDecoder().decode(receive.at(two.addresses[0], 2)), "bi");
  assert.equal(new TextDecoder().decode(receive.at(two.addresses[1], 2)), "rd");
  assert.deepEqual(log, [0, 0]);
});

Deno.test("an input buffer without room is given back at once", () => {
  const { handler, receive, host } = console();
  const { addresses } = receive.submit([send("readable")]);
  const good = receive.submit([{ receive: 8 }]);
  handler.onKick(0);
  host.type("abc");
  assert.deepEqual(received(receive, [addresses[0], good.addresses[0]]), ["", "abc"]);
});

Deno.test("drain() keeps input away from the rings until the next kick", () => {
  const { handler, receive, host } = console();
  const { addresses } = receive.submit([{ receive: 16 }]);
  handler.onKick(0);
  handler.drain();
  host.type("typed while paused");
  assert.equal(receive.complete(), undefined);
  handler.onKick(0);
  assert.deepEqual(received(receive, addresses), ["typed while paus"]);
  assert.equal(host.waiting.length, 2);
  handler.close();
  assert.equal(host.input, undefined);
  assert.equal(host.resized, undefined);
});

Deno.test("a new window size reaches the config, but only a driver that asked for it", () => {
  const { handler, host, log, config } = console({ size: { columns: 80, rows: 25 } });
  assert.equal(config[ConsoleConfigLayout.cols], 80);
  assert.deepEqual(log, ["config"]);
  handler.onKick(0);
  host.size = { columns: 0x123, rows: 24 };
  host.resized!();
  handler.onCommand!({ kind: CONSOLE_RESIZED });
  assert.deepEqual([...config.subarray(0, 4)], [0x23, 1, 24, 0]);
  assert.deepEqual(log, ["config", "config"]);
  const silent = console({ size: { columns: 80, rows: 25 }, features: 0 });
  assert.deepEqual(silent.log, []);
});

Deno.test("a broken input ring fails the device when input comes", () => {
  const { handler, receive, host, log } = console();
  handler.onKick(0);
  receive.setAvailableIndex(1000);
  host.type("x");
  assert.equal(log.length, 1);
  assert.match(String(log[0]), /available index/);
});

import assert from "node:assert/strict";
import { bumpGeneration, BusBlock } from "./bus_block.ts";
import type { IoDevice } from "./io_device.ts";
import { MmioBus } from "./mmio_bus.ts";
import { PioBus } from "./pio_bus.ts";

/** Remembers what it was asked; reads give offset-dependent bytes. */
class Recorder implements IoDevice {
  readonly log: string[] = [];
  read(offset: number, size: 1 | 2 | 4): number {
    this.log.push(`r${offset}/${size}`);
    let value = 0;
    for (let i = 0; i < size; i++) value += (offset + i) * 2 ** (8 * i);
    return value;
  }
  write(offset: number, size: 1 | 2 | 4, value: number): void {
    this.log.push(`w${offset}/${size}=${value.toString(16)}`);
  }
}

const page = () => new DataView(new ArrayBuffer(64));
const bytes = (view: DataView, at: number, n: number) => [...new Uint8Array(view.buffer, at, n)];

Deno.test("PioBus passes operands and offsets", () => {
  const bus = new PioBus(BusBlock.create());
  const device = new Recorder();
  bus.add(0x3f8, 8, device);
  const view = page();
  bus.access(view, 16, 0x3f9, 1, 1, false);
  assert.deepEqual(bytes(view, 16, 2), [1, 0]);
  view.setUint32(16, 0xdead_beef, true);
  bus.access(view, 16, 0x3f8, 4, 1, true);
  assert.deepEqual(device.log, ["r1/1", "w0/4=deadbeef"]);
});

Deno.test("PioBus repeats string I/O on the same port", () => {
  const bus = new PioBus(BusBlock.create());
  const device = new Recorder();
  bus.add(0x80, 1, device);
  const view = page();
  view.setUint8(8, 0x41);
  view.setUint8(9, 0x42);
  bus.access(view, 8, 0x80, 1, 2, true);
  assert.deepEqual(device.log, ["w0/1=41", "w0/1=42"]);
});

Deno.test("PioBus gives ones and counts where nothing is, and leaves an access past a window's end to its device", () => {
  const state = BusBlock.create();
  const bus = new PioBus(state);
  const device = new Recorder();
  bus.add(0x600, 1, device);
  const view = page();
  bus.access(view, 0, 0x10, 4, 2, false);
  assert.deepEqual(bytes(view, 0, 9), [255, 255, 255, 255, 255, 255, 255, 255, 0]);
  assert.equal(state.unassignedPio, 1);
  bus.access(view, 0, 0x600, 2, 1, false);
  assert.deepEqual(bytes(view, 0, 2), [0, 1]);
  bus.access(view, 0, 0xffff, 4, 1, false);
  assert.deepEqual(device.log, ["r0/2"]);
});

Deno.test("PioBus refuses taken ports", () => {
  const bus = new PioBus(BusBlock.create());
  bus.add(0x70, 2, new Recorder());
  assert.throws(() => bus.add(0x71, 1, new Recorder()), /Port 0x71 is taken/);
  assert.throws(() => bus.add(0xffff, 2, new Recorder()), RangeError);
});

Deno.test("MmioBus finds windows above 4 GiB and splits 8 bytes into two halves", () => {
  const device = new Recorder();
  const base = 0x3fff_f780_0000;
  const bus = new MmioBus(BusBlock.create(), (b) => b.add(base, 0x1000, device));
  const view = page();
  view.setUint32(8, 0x1111_1111, true);
  view.setUint32(12, 0x2222_2222, true);
  bus.access(base + 0x20, view, 8, 8, true);
  bus.access(base + 4, view, 8, 2, false);
  assert.deepEqual(device.log, ["w32/4=11111111", "w36/4=22222222", "r4/2"]);
});

Deno.test("MmioBus splits accesses of odd size and past the end of a window", () => {
  const a = new Recorder();
  const b = new Recorder();
  const state = BusBlock.create();
  const bus = new MmioBus(state, (m) => {
    m.add(0x2000, 0x10, b);
    m.add(0x1000, 0x10, a);
  });
  const view = page();
  bus.access(0x1000, view, 0, 3, false);
  assert.deepEqual(a.log, ["r0/1", "r1/1", "r2/1"]);
  bus.access(0x200e, view, 0, 4, false);
  assert.deepEqual(b.log, ["r14/1", "r15/1"]);
  assert.deepEqual(bytes(view, 0, 4), [14, 15, 255, 255]);
  assert.equal(state.unassignedMmio, 2);
});

Deno.test("MmioBus reads its windows again when the generation moved", () => {
  const state = BusBlock.create();
  const device = new Recorder();
  let base = 0x1000;
  const bus = new MmioBus(state, (m) => m.add(base, 0x10, device));
  const view = page();
  bus.access(0x1000, view, 0, 1, false);
  base = 0x5000;
  bus.access(0x1001, view, 0, 1, false);
  bumpGeneration(state);
  bus.access(0x1000, view, 0, 1, false);
  assert.equal(view.getUint8(0), 255);
  bus.access(0x5002, view, 0, 1, false);
  assert.deepEqual(device.log, ["r0/1", "r1/1", "r2/1"]);
});

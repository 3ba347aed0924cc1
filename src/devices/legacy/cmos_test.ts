import assert from "node:assert/strict";
import type { GuestEvent } from "@vmm/bus/ports.ts";
import { Cmos, createCmos } from "./cmos.ts";
import { PowerControl, PowerControlBlock } from "./power_control.ts";

const MIB = 0x10_0000;

function cmos(nowUs: number, low = 128 * MIB, high = 0) {
  const events: GuestEvent[] = [];
  const power = new PowerControl(
    PowerControlBlock.create(),
    { post: (event) => void events.push(event) },
    () => {},
  );
  const time = { monotonicNs: () => 0, realtimeUs: () => nowUs };
  const device = new Cmos(createCmos(low, high), time, power);
  const read = (index: number) => {
    device.write(0, 1, index);
    return device.read(1, 1);
  };
  return { device, events, read };
}

const CLOCK = [0x00, 0x02, 0x04, 0x06, 0x07, 0x08, 0x09, 0x32];
const decimal = (value: number) => (value >> 4) * 10 + (value & 15);

Deno.test("Cmos shows UTC in BCD", () => {
  const { read } = cmos(Date.UTC(2024, 1, 29, 23, 58, 47) * 1000);
  assert.deepEqual(CLOCK.map(read), [0x47, 0x58, 0x23, 5, 0x29, 0x02, 0x24, 0x20]);
});

Deno.test("Cmos agrees with the calendar over centuries", () => {
  for (let day = 0; day < 160_000; day += 373) {
    const date = new Date(day * 86_400_000);
    const { read } = cmos(date.getTime() * 1000);
    assert.deepEqual([0x32, 0x09, 0x08, 0x07, 0x06].map((index) => decimal(read(index))), [
      Math.floor(date.getUTCFullYear() / 100),
      date.getUTCFullYear() % 100,
      date.getUTCMonth() + 1,
      date.getUTCDate(),
      date.getUTCDay() + 1,
    ]);
  }
});

Deno.test("Cmos raises update-in-progress in the last 244 µs of a second", () => {
  assert.equal(cmos(1_000_000).read(0x0a), 0x20);
  assert.equal(cmos(1_999_755).read(0x0a), 0x20);
  assert.equal(cmos(1_999_756).read(0x0a), 0xa0);
  assert.equal(cmos(0).read(0x0d), 0x80);
});

Deno.test("Cmos tells the size of RAM", () => {
  const { read } = cmos(0, 3072 * MIB, 5 * 1024 * MIB);
  assert.equal(read(0x34) | (read(0x35) << 8), (3072 - 16) * 16);
  assert.equal(read(0x5b) | (read(0x5c) << 8) | (read(0x5d) << 16), 5 * 1024 * 16);
  assert.equal(cmos(0, 8 * MIB).read(0x34), 0);
});

Deno.test("Cmos stores the other bytes, with the NMI bit of the index ignored", () => {
  const { device, read } = cmos(0);
  device.write(0, 1, 0xc0);
  device.write(1, 1, 0x77);
  assert.equal(device.read(0, 1), 0xc0);
  assert.equal(read(0x40), 0x77);
});

Deno.test("Cmos resets by index 0x8f with zero only", () => {
  const { device, events } = cmos(0);
  device.write(0, 1, 0x8f);
  device.write(1, 1, 5);
  assert.deepEqual(events, []);
  device.write(1, 1, 0);
  assert.deepEqual(events, [{ kind: "reset" }]);
});

Deno.test("Cmos ignores accesses that are not one byte wide", () => {
  const { device } = cmos(0);
  device.write(0, 2, 0x8f);
  assert.equal(device.read(0, 1), 0);
  assert.equal(device.read(1, 2), 0);
});

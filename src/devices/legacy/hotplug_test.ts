import assert from "node:assert/strict";
import type { GuestEvent } from "@vmm/bus/ports.ts";
import {
  CpuHotplug,
  cpusBeingRemoved,
  createCpuHotplug,
  insertCpu,
  requestCpuRemoval,
} from "./cpu_hotplug.ts";
import { insertMemory, MemoryHotplug, MemoryHotplugBlock } from "./memory_hotplug.ts";

const ENABLED = 1;
const INSERTING = 2;
const REMOVING = 4;
const EJECT = 8;

function cpus(boot: number, max: number) {
  const state = createCpuHotplug(boot, max);
  const events: GuestEvent[] = [];
  const device = new CpuHotplug(state, { post: (event) => void events.push(event) });
  const select = (cpu: number) => device.write(0, 4, cpu);
  return { state, events, device, select };
}

Deno.test("CpuHotplug shows boot CPUs enabled and the others absent", () => {
  const { device, select } = cpus(2, 4);
  const statuses = [0, 1, 2, 3, 4, 0xffff_ffff].map((cpu) => {
    select(cpu);
    assert.equal(device.read(0, 4), cpu);
    return device.read(4, 1);
  });
  assert.deepEqual(statuses, [ENABLED, ENABLED, 0, 0, 0, 0]);
});

Deno.test("CpuHotplug insertion is acknowledged by writing the bit back", () => {
  const { state, device, select } = cpus(1, 2);
  insertCpu(state, 1);
  select(1);
  assert.equal(device.read(4, 1), ENABLED | INSERTING);
  device.write(4, 1, INSERTING);
  assert.equal(device.read(4, 1), ENABLED);
});

Deno.test("CpuHotplug removal completes although the guest's scan writes the request bit back", () => {
  const { state, events, device, select } = cpus(2, 2);
  requestCpuRemoval(state, 1);
  select(1);
  assert.equal(device.read(4, 1), ENABLED | REMOVING);
  device.write(4, 1, REMOVING);
  assert.equal(device.read(4, 1), ENABLED);
  assert.deepEqual(cpusBeingRemoved(state), [1]);
  device.write(4, 1, EJECT);
  assert.equal(device.read(4, 1), 0);
  assert.deepEqual(events, [{ kind: "cpu-eject", cpu: 1 }]);
  device.write(4, 1, EJECT);
  assert.equal(events.length, 1);
  assert.deepEqual(cpusBeingRemoved(state), []);
});

Deno.test("CpuHotplug ejects neither CPU 0 nor a CPU nobody asked for nor one that does not exist", () => {
  const { state, events, device, select } = cpus(2, 2);
  requestCpuRemoval(state, 0);
  for (const cpu of [0, 1, 2, 4096, 0xffff_ffff]) {
    select(cpu);
    device.write(4, 1, EJECT);
  }
  assert.deepEqual(events, []);
  select(1);
  assert.equal(device.read(4, 1), ENABLED);
});

Deno.test("createCpuHotplug() refuses more CPUs than the block holds", () => {
  assert.throws(() => createCpuHotplug(1, 4097), RangeError);
});

Deno.test("MemoryHotplug shows inserted ranges", () => {
  const state = MemoryHotplugBlock.create();
  const device = new MemoryHotplug(state);
  assert.equal(insertMemory(state, 0x1_2000_0000, 0x2_0800_0000), 0);
  assert.equal(insertMemory(state, 0x4_0000_0000, 0x0800_0000), 1);
  device.write(0, 4, 0);
  assert.deepEqual([0, 4, 8, 12].map((offset) => device.read(offset, 4)), [0x2000_0000, 1, 0x0800_0000, 2]);
  assert.equal(device.read(0x14, 1), ENABLED | INSERTING);
  device.write(0x14, 1, INSERTING | EJECT);
  assert.equal(device.read(0x14, 1), ENABLED);
  device.write(0, 4, 1);
  assert.deepEqual([0, 4, 8, 12].map((offset) => device.read(offset, 4)), [0, 4, 0x0800_0000, 0]);
  device.write(0, 4, 7);
  assert.equal(device.read(0x14, 1), 0);
});

Deno.test("MemoryHotplug has eight slots and survives any selection", () => {
  const state = MemoryHotplugBlock.create();
  const device = new MemoryHotplug(state);
  for (let slot = 0; slot < 8; slot++) {
    assert.equal(insertMemory(state, slot * 0x1000_0000, 0x0800_0000), slot);
  }
  assert.equal(insertMemory(state, 0x9000_0000, 0x0800_0000), -1);
  device.write(0, 4, 200);
  assert.equal(device.read(0, 4), 0);
  assert.equal(device.read(0x14, 1), 0);
  device.write(0x14, 1, 0xff);
});

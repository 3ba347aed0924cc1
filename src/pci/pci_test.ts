import assert from "node:assert/strict";
import { BusBlock } from "@vmm/bus/bus_block.ts";
import { MmioBus } from "@vmm/bus/mmio_bus.ts";
import type { GuestEvent } from "@vmm/bus/ports.ts";
import { Aperture } from "./aperture.ts";
import { type BarMoves, ConfigSpace } from "./function.ts";
import { BarRelocator } from "./bar_relocator.ts";
import { barBase, PciFunctionBlock } from "./function_block.ts";
import { PciHeaderBuilder } from "./header.ts";
import { createHostBridge } from "./host_bridge.ts";
import { PciHotplugController } from "./hotplug_controller.ts";
import { PciBlock, setSlot, slotIsSet } from "./pci_block.ts";
import { ConfigPorts, PciSegment } from "./segment.ts";
import { PciSlots } from "./slots.ts";

const identity = { vendorId: 0x1af4, deviceId: 0x1044, classCode: 0xff, subclass: 0xff };

function accept(log: string[] = [], result = true): BarMoves {
  return {
    relocate: (bar, from, to, size) => {
      log.push(`${bar} ${from.toString(16)}>${to.toString(16)} ${size}`);
      return result;
    },
    moved: () => log.push("moved"),
  };
}

function wideFunction(moves: BarMoves) {
  const state = PciFunctionBlock.create();
  new PciHeaderBuilder(state, identity).memoryBar(0, "memory64", 0x3fff_f780_0000, 0x80000);
  return new ConfigSpace(state, moves);
}

Deno.test("PciHeaderBuilder chains capabilities and marks them in the status register", () => {
  const state = PciFunctionBlock.create();
  const header = new PciHeaderBuilder(state, identity);
  assert.equal(header.capability(0x09, Uint8Array.of(5, 1, 2)), 0x40);
  assert.equal(header.msix(3, 0, 0x8000, 0, 0x48000), 0x48);
  assert.equal(state.config[0x06], 0x10);
  assert.deepEqual([...state.config.subarray(0x34, 0x35)], [0x40]);
  assert.deepEqual([...state.config.subarray(0x40, 0x45)], [0x09, 0x48, 5, 1, 2]);
  assert.deepEqual([...state.config.subarray(0x48, 0x54)], [0x11, 0, 2, 0, 0, 0x80, 0, 0, 0, 0x80, 4, 0]);
});

Deno.test("ConfigSpace sizes a 64-bit BAR and keeps it decoded meanwhile", () => {
  const log: string[] = [];
  const fn = wideFunction(accept(log));
  fn.writeConfig(0x04, 2, 0x0006);
  fn.writeConfig(0x10, 4, 0xffff_ffff);
  assert.equal(fn.readConfig(0x10, 4), 0xfff8_0004);
  fn.writeConfig(0x10, 4, 0xf780_0004);
  fn.writeConfig(0x14, 4, 0xffff_ffff);
  assert.equal(fn.readConfig(0x14, 4), 0xffff_ffff);
  fn.writeConfig(0x14, 4, 0x3fff);
  assert.deepEqual(log, []);
  assert.equal(barBase(fn.state, 0), 0x3fff_f780_0000);
});

Deno.test("ConfigSpace moves a 64-bit BAR with its upper half", () => {
  const log: string[] = [];
  const fn = wideFunction(accept(log));
  fn.writeConfig(0x04, 2, 2);
  fn.writeConfig(0x10, 4, 0x0010_0000);
  assert.deepEqual(log, []);
  fn.writeConfig(0x14, 4, 0x2);
  assert.deepEqual(log, ["0 3ffff7800000>200100000 524288", "moved"]);
  assert.equal(barBase(fn.state, 0), 0x2_0010_0000);
});

Deno.test("ConfigSpace moves a BAR when memory gets enabled, not before", () => {
  const log: string[] = [];
  const state = PciFunctionBlock.create();
  new PciHeaderBuilder(state, identity).memoryBar(0, "memory32", 0xe7f8_0000, 0x80000);
  const fn = new ConfigSpace(state, accept(log));
  fn.writeConfig(0x10, 4, 0xc000_0000);
  assert.equal(barBase(state, 0), 0xe7f8_0000);
  fn.writeConfig(0x04, 2, 2);
  assert.deepEqual(log, ["0 e7f80000>c0000000 524288", "moved"]);
});

Deno.test("ConfigSpace shows the old address again when a move fails", () => {
  const fn = wideFunction(accept([], false));
  fn.writeConfig(0x04, 2, 2);
  fn.writeConfig(0x10, 4, 0x0010_0000);
  fn.writeConfig(0x14, 4, 0x7fff_0000);
  assert.equal(fn.readConfig(0x10, 4), 0xf780_0004);
  assert.equal(fn.readConfig(0x14, 4), 0x3fff);
  assert.equal(barBase(fn.state, 0), 0x3fff_f780_0000);
});

Deno.test("ConfigSpace protects ids and ignores accesses past the end", () => {
  const fn = wideFunction(accept());
  fn.writeConfig(0, 4, 0);
  fn.writeConfig(0xffe, 4, 0);
  assert.equal(fn.readConfig(0, 4), 0x1044_1af4);
  assert.equal(fn.readConfig(0xffd, 4), 0);
});

function segmentWithBridge() {
  const pci = PciBlock.create();
  pci.segments = 1;
  const segment = new PciSegment(0, pci);
  segment.register(0, new ConfigSpace(createHostBridge(), accept()));
  setSlot(pci, "present", 0, 0);
  return { pci, segment };
}

Deno.test("PciSegment answers through ECAM for function 0 of present slots only", () => {
  const { pci, segment } = segmentWithBridge();
  segment.register(3, wideFunction(accept()));
  assert.equal(segment.read(0, 4), 0x0d57_8086);
  assert.equal(segment.read(0x1000, 4), 0xffff_ffff);
  assert.equal(segment.read(1, 2), 0x5780);
  assert.equal(segment.read(2, 4), 0xffff_ffff);
  assert.equal(segment.read(3 << 15, 2), 0xffff);
  setSlot(pci, "present", 0, 3);
  assert.equal(segment.read(3 << 15, 2), 0x1af4);
});

Deno.test("ConfigPorts needs the enable bit and supports narrow accesses", () => {
  const { pci, segment } = segmentWithBridge();
  const ports = new ConfigPorts(segment, pci);
  assert.equal(ports.read(4, 4), 0xffff_ffff);
  ports.write(0, 4, 0x8000_0000);
  assert.equal(ports.read(0, 4), 0x8000_0000);
  assert.equal(ports.read(4, 4), 0x0d57_8086);
  assert.equal(ports.read(6, 2), 0x0d57);
  ports.write(0, 1, 0x08);
  assert.equal(ports.read(7, 1), 0x06);
  ports.write(0, 4, 0x8000_0100);
  assert.equal(ports.read(4, 1), 0xff);
});

Deno.test("PciSegment gives its BAR windows to the bus", () => {
  const { pci, segment } = segmentWithBridge();
  const state = PciFunctionBlock.create();
  new PciHeaderBuilder(state, identity).memoryBar(0, "memory32", 0xe7f8_0000, 0x80000);
  const registers = { read: (offset: number) => offset, write: () => {} };
  segment.register(1, new ConfigSpace(state, accept(), [registers]));
  setSlot(pci, "present", 0, 1);
  const bus = new MmioBus(BusBlock.create(), (b) => segment.addBars(b));
  const view = new DataView(new ArrayBuffer(8));
  bus.access(0xe7f8_0044, view, 0, 4, false);
  assert.equal(view.getUint32(0, true), 0x44);
});

Deno.test("PciHotplugController clears what it reported and silences ejected slots", () => {
  const pci = PciBlock.create();
  pci.segments = 2;
  const bus = BusBlock.create();
  const events: GuestEvent[] = [];
  const controller = new PciHotplugController(pci, bus, { post: (event) => events.push(event) });
  setSlot(pci, "added", 1, 5);
  setSlot(pci, "present", 1, 5);
  assert.equal(controller.read(0, 4), 0);
  controller.write(12, 4, 1);
  assert.equal(controller.read(0, 1), 0);
  assert.equal(controller.read(0, 4), 32);
  assert.equal(controller.read(0, 4), 0);
  controller.write(8, 4, 0b110_0000);
  assert.deepEqual(events, [{ kind: "pci-eject", segment: 1, slots: 32 }]);
  assert.equal(slotIsSet(pci, "present", 1, 5), false);
  assert.equal(bus.generation, 1);
  controller.write(12, 4, 7);
  controller.write(8, 4, 1);
  assert.equal(controller.read(0, 4), 0);
  assert.equal(events.length, 1);
});

Deno.test("Aperture places like the original: from the top, aligned, into the highest gap", () => {
  const aperture = Aperture.create({
    memory32: { start: 0xc000_0000, end: 0xe800_0000 },
    memory64: { start: 0x1_0000_0000, end: 0x3fff_ffef_0000 },
  });
  assert.equal(aperture.allocate("memory64", 0x800_0000, 0x20_0000), 0x3fff_f7e0_0000);
  assert.equal(aperture.allocate("memory64", 0x8_0000, 0x80_0000), 0x3fff_f780_0000);
  assert.equal(aperture.allocate("memory64", 0x8_0000, 0x80_0000), 0x3fff_f700_0000);
  assert.equal(aperture.allocate("memory32", 0x8_0000, 0x8_0000), 0xe7f8_0000);
  assert.equal(aperture.allocate("memory32", 2, 16), 0xe7f7_fff0);
  aperture.free(0x3fff_f780_0000);
  assert.equal(aperture.allocate("memory64", 0x8_0000, 0x80_0000), 0x3fff_f780_0000);
});

Deno.test("Aperture moves only into free space of its windows", () => {
  const aperture = Aperture.create({
    memory32: { start: 0xc000_0000, end: 0xc001_0000 },
    memory64: { start: 0x1_0000_0000, end: 0x2_0000_0000 },
  });
  const a = aperture.allocate("memory32", 0x8000, 0x8000)!;
  const b = aperture.allocate("memory32", 0x4000, 0x4000)!;
  assert.equal(aperture.allocate("memory32", 0x8000, 0x8000), undefined);
  assert.equal(aperture.move(b, a, 0x4000), false);
  assert.equal(aperture.move(b, 0xfee0_0000, 0x4000), false);
  assert.equal(aperture.move(b, 0x1_0000_0000, 0x4000), false);
  assert.equal(aperture.move(b, 0xc000_0000, 0x4000), true);
  assert.equal(Aperture.attach(aperture.block.buffer).reserve(b, 0x4000), true);
  assert.equal(aperture.allocate("memory64", 0x2_0000_0000, 16), undefined);
});

Deno.test("PciSlots hands out the lowest free slot and explains refusals", () => {
  const slots = new PciSlots(0);
  slots.reserve(2);
  assert.deepEqual([slots.allocate(), slots.allocate()], [1, 3]);
  slots.free(1);
  assert.equal(slots.allocate(), 1);
  const reason = (slot: number): string => {
    try {
      slots.reserve(slot);
      return "reserved";
    } catch (error) {
      return ((error as Error).cause as Error).message;
    }
  };
  assert.equal(reason(3), "Valid PCI device identifier but already used: 3");
  assert.equal(reason(188), "Given PCI device ID (188) is out of the supported range of 0..32");
  assert.equal(reason(0), "Given PCI device ID (0) is reserved");
  for (let i = 4; i < 32; i++) slots.allocate();
  assert.throws(() => slots.allocate(), /Failed to find an available PCI device ID/);
  assert.equal(new PciSlots(1).allocate(), 0);
});

Deno.test("BarRelocator gives the range back when the machine cannot follow", () => {
  const aperture = Aperture.create({
    memory32: { start: 0xc000_0000, end: 0xc001_0000 },
    memory64: { start: 0x1_0000_0000, end: 0x1_0000_0000 },
  });
  const base = aperture.allocate("memory32", 0x4000, 0x4000)!;
  const bus = BusBlock.create();
  let able = false;
  const relocator = new BarRelocator(aperture, bus, { relocated: () => able });
  assert.equal(relocator.relocate(0, base, 0xc000_0000, 0x4000), false);
  assert.equal(aperture.reserve(base, 0x4000), false);
  able = true;
  assert.equal(relocator.relocate(0, base, 0xc000_0000, 0x4000), true);
  assert.equal(aperture.reserve(base, 0x4000), true);
  relocator.moved();
  assert.equal(bus.generation, 1);
});

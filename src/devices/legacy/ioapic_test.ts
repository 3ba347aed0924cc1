import assert from "node:assert/strict";
import { IOAPIC_PIN_COUNT } from "@vmm/arch/x86_64/layout.ts";
import { createIoapic, Ioapic, IoapicLines, levelRoute } from "./ioapic.ts";

function ioapic() {
  const state = createIoapic();
  const sent: [number, number, number][] = [];
  const changed: number[] = [];
  const lines = new IoapicLines(state, {
    signal(low, high, data) {
      sent.push([low, high, data]);
      return true;
    },
  });
  const device = new Ioapic(state, lines, (pin) => void changed.push(pin));
  const read = (register: number) => {
    device.write(0, 4, register);
    return device.read(0x10, 4);
  };
  const write = (register: number, value: number) => {
    device.write(0, 4, register);
    device.write(0x10, 4, value);
  };
  return { state, sent, changed, lines, device, read, write };
}

const EDGE_VECTOR_0x31 = 0x31;
const LEVEL = 0x8000;
const MASKED = 0x1_0000;
const REMOTE_IRR = 0x4000;

Deno.test("Ioapic shows version 0x11, 24 entries, id 0 and masked pins at reset", () => {
  const { read } = ioapic();
  assert.equal(read(0), 0);
  assert.equal(read(1), 0x0017_0011);
  assert.equal(read(2), 0);
  for (let pin = 0; pin < IOAPIC_PIN_COUNT; pin++) {
    assert.equal(read(0x10 + 2 * pin), MASKED);
    assert.equal(read(0x11 + 2 * pin), 0);
  }
  assert.equal(read(0x10 + 2 * IOAPIC_PIN_COUNT), 0);
  assert.equal(read(0xff), 0);
});

Deno.test("Ioapic keeps the id's four bits and refuses read-only fields", () => {
  const { read, write } = ioapic();
  write(0, 0xffff_ffff);
  assert.equal(read(0), 0x0f00_0000);
  write(1, 0);
  assert.equal(read(1), 0x0017_0011);
  write(0x10, 0xffff_ffff);
  assert.equal(read(0x10), 0xffff_afff);
});

Deno.test("Ioapic reads zero for accesses that are not a dword", () => {
  const { device } = ioapic();
  device.write(0, 4, 1);
  assert.equal(device.read(0x10, 2), 0);
  device.write(0x10, 1, 0xff);
  assert.equal(device.read(4, 4), 0);
});

Deno.test("IoapicLines.pulse() sends the entry's message", () => {
  const { sent, lines, write } = ioapic();
  write(0x19, 0x0300_0000);
  write(0x18, EDGE_VECTOR_0x31);
  lines.pulse(4);
  assert.deepEqual(sent, [[0xfee0_3000, 0, 0x31]]);
});

Deno.test("IoapicLines.pulse() translates lowest priority, logical mode and extended destinations", () => {
  const { sent, lines, write } = ioapic();
  write(0x19, 0xff00_0000);
  write(0x18, 0x931);
  lines.pulse(4);
  write(0x1b, 0x0102_0000);
  write(0x1a, 0x32);
  lines.pulse(5);
  // Destination 0x101: bit 8 goes into the high half.
  assert.deepEqual(sent, [[0xfeef_f00c, 0, 0x131], [0xfee0_1000, 0x100, 0x32]]);
});

Deno.test("IoapicLines.pulse() on a masked pin is sent once when the pin is unmasked", () => {
  const { sent, lines, write } = ioapic();
  lines.pulse(13);
  lines.pulse(13);
  assert.deepEqual(sent, []);
  write(0x10 + 26, MASKED | 0x40);
  assert.deepEqual(sent, []);
  write(0x10 + 26, 0x40);
  assert.deepEqual(sent, [[0xfee0_0000, 0, 0x40]]);
  write(0x10 + 26, 0x40);
  assert.equal(sent.length, 1);
});

Deno.test("IoapicLines holds a level interrupt until its end and repeats it while the source is up", () => {
  const { state, sent, changed, lines, read, write } = ioapic();
  write(0x1a, LEVEL | 0x50);
  assert.deepEqual(changed, [5]);
  assert.deepEqual(levelRoute(state, 5), { addressLow: 0xfee0_0000, addressHigh: 0, data: 0xc050 });
  lines.assert(5);
  lines.assert(5);
  assert.equal(sent.length, 1);
  assert.equal(read(0x1a) & REMOTE_IRR, REMOTE_IRR);
  lines.endOfInterrupt(0x51);
  assert.equal(sent.length, 1);
  lines.endOfInterrupt(0x50);
  assert.equal(sent.length, 2);
  lines.deassert(5);
  lines.endOfInterrupt(0x50);
  assert.equal(sent.length, 2);
  assert.equal(read(0x1a) & REMOTE_IRR, 0);
  write(0x1a, MASKED);
  assert.deepEqual(changed, [5, 5]);
  assert.equal(levelRoute(state, 5), undefined);
});

Deno.test("Ioapic keeps remote IRR over a write and drops it when the pin becomes edge-triggered", () => {
  const { lines, read, write } = ioapic();
  write(0x1a, LEVEL | 0x50);
  lines.assert(5);
  write(0x1a, LEVEL | 0x51);
  assert.equal(read(0x1a), LEVEL | REMOTE_IRR | 0x51);
  write(0x1a, MASKED | 0x51);
  assert.equal(read(0x1a), MASKED | 0x51);
});

Deno.test("IoapicLines ignores lines the IOAPIC does not have", () => {
  const { sent, lines } = ioapic();
  lines.pulse(24);
  lines.assert(1000);
  lines.deassert(1000);
  assert.deepEqual(sent, []);
});

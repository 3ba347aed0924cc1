import assert from "node:assert/strict";
import { kvmAddressHigh, kvmAddressLow, type MsixState, MsixTable } from "./msix.ts";

function setUp(vectors = 3) {
  const state: MsixState = {
    config: new Uint8Array(new SharedArrayBuffer(0x100)),
    msixCapability: 0x98,
    msixVectors: vectors,
    msixTable: new Uint32Array(new SharedArrayBuffer(vectors * 16)),
    msixPending: new Uint32Array(new SharedArrayBuffer(4)),
  };
  const sent: number[][] = [];
  const table = new MsixTable(state, {
    signal: (...message) => {
      sent.push(message);
      return true;
    },
  });
  MsixTable.reset(state);
  const control = (value: number) => {
    state.config[0x9b] = value >>> 8;
    table.controlWritten();
  };
  const program = (vector: number) => {
    table.writeTable(vector * 16, 4, 0xfee0_1000);
    table.writeTable(vector * 16 + 8, 4, 0x40 + vector);
  };
  return { state, sent, table, control, program };
}

Deno.test("MsixTable drops messages while MSI-X is disabled or the vector does not exist", () => {
  const { table, sent, control } = setUp();
  table.signal(0);
  control(0x8000);
  table.signal(0xffff);
  assert.deepEqual(sent, []);
  assert.equal(table.readPending(0, 4), 0);
});

Deno.test("MsixTable keeps a masked message pending and sends it once at unmasking", () => {
  const { table, sent, control, program } = setUp();
  control(0x8000);
  program(2);
  table.signal(2);
  table.signal(2);
  assert.equal(table.readPending(0, 4), 4);
  table.writeTable(2 * 16 + 12, 4, 0);
  assert.deepEqual(sent, [[0xfee0_1000, 0, 0x42]]);
  assert.equal(table.readPending(0, 4), 0);
  table.signal(2);
  assert.equal(sent.length, 2);
});

Deno.test("MsixTable honours the function mask", () => {
  const { table, sent, control, program } = setUp();
  control(0xc000);
  program(0);
  table.writeTable(12, 4, 0);
  table.signal(0);
  assert.equal(sent.length, 0);
  control(0x8000);
  assert.equal(sent.length, 1);
});

Deno.test("MsixTable accepts partial words and ignores what lies outside", () => {
  const { table, state } = setUp(1);
  table.writeTable(2, 2, 0xfee0);
  table.writeTable(0, 1, 0x10);
  assert.equal(table.readTable(0, 4), 0xfee0_0010);
  assert.equal(table.readTable(3, 1), 0xfe);
  table.writeTable(12, 4, 0xffff_fffe);
  assert.equal(state.msixTable[3], 0xffff_fffe);
  table.writeTable(16, 4, 1);
  assert.equal(table.readTable(16, 4), 0xffff_ffff);
  assert.deepEqual([table.readPending(4, 4), table.readPending(8, 4)], [0, 0xffff_ffff]);
});

Deno.test("kvmAddressHigh() moves the extended destination id", () => {
  assert.equal(kvmAddressLow(0xfee0_10e0, 0), 0xfee0_1000);
  assert.equal(kvmAddressHigh(0xfee0_10e0, 0), 0x700);
  assert.equal(kvmAddressHigh(0xfee0_10f0, 0), 0); // remappable format
  assert.equal(kvmAddressLow(0xfee0_10e0, 1), 0xfee0_10e0);
});

import assert from "node:assert/strict";
import type { ItemSource } from "@vmm/bus/item_source.ts";
import { GuestMemory } from "@vmm/memory/guest_memory.ts";
import { FwCfgBlock, FwCfgDma, FwCfgPorts } from "./fw_cfg.ts";
import { cmdlineItems, fileItems, fixedItems, type FwCfgItem, kernelItems } from "./items.ts";
import { DMA_ERROR, DMA_READ, DMA_SELECT, DMA_SKIP, DMA_WRITE } from "./spec.ts";

const KEY = 0x20;
const RAM_BYTES = 0x4000;
const ACCESS = 0x3000;

/** Ports and DMA over items in memory. */
function device(items: Record<number, Uint8Array>) {
  const state = FwCfgBlock.create();
  const source: ItemSource = {
    sizeOf: (key) => items[key]?.byteLength ?? 0,
    read: (key, offset, target) => {
      const bytes = items[key]?.subarray(offset, offset + target.byteLength);
      if (bytes?.byteLength !== target.byteLength) return false;
      target.set(bytes);
      return true;
    },
  };
  const buffer = new ArrayBuffer(RAM_BYTES);
  const memory = new GuestMemory([
    { gpa: 0, sizeBytes: RAM_BYTES / 2, hostAddress: 0n, buffer: new ArrayBuffer(RAM_BYTES / 2) },
    { gpa: RAM_BYTES / 2, sizeBytes: RAM_BYTES / 2, hostAddress: 0n, buffer: buffer.slice(RAM_BYTES / 2) },
  ]);
  const dma = new FwCfgDma(state, source, memory);
  const ports = new FwCfgPorts(state, source, { wake: () => dma.poll() });
  const select = (key: number) => ports.write(0, 2, key);
  const next = (count: number) => Array.from({ length: count }, () => ports.read(1, 1));
  /** Starts a DMA by ports; returns the control word it leaves. */
  const transfer = (control: number, length: number, address: number, access = ACCESS) => {
    const view = new DataView(new ArrayBuffer(16));
    view.setUint32(0, control);
    view.setUint32(4, length);
    view.setBigUint64(8, BigInt(address));
    memory.write(access, new Uint8Array(view.buffer));
    const bigEndian = (value: number) => new DataView(Uint32Array.of(value).buffer).getUint32(0);
    ports.write(4, 4, bigEndian(Math.floor(access / 2 ** 32)));
    ports.write(8, 4, bigEndian(access >>> 0));
    const left = memory.bytes(access, 4);
    return left === undefined ? -1 : new DataView(left.buffer, left.byteOffset).getUint32(0);
  };
  return { ports, select, next, transfer, memory, state };
}

Deno.test("the data port gives the selected item byte by byte, and zeros behind it", () => {
  const { select, next, ports } = device({ [KEY]: Uint8Array.of(1, 2, 3), 5: Uint8Array.of(9) });
  select(KEY);
  assert.deepEqual([next(2), next(3)], [[1, 2], [3, 0, 0]]);
  select(5);
  assert.deepEqual(next(2), [9, 0]);
  select(KEY);
  assert.deepEqual(next(1), [1]);
  select(0x7777);
  assert.deepEqual(next(2), [0, 0]);
  ports.write(1, 1, 0xff); // items are read-only
  assert.equal(ports.read(0, 2), 0);
});

Deno.test("the data port crosses what is read at once", () => {
  const item = Uint8Array.from({ length: 10_000 }, (_, i) => i % 251);
  const { select, next } = device({ [KEY]: item });
  select(KEY);
  assert.deepEqual(next(10_001), [...item, 0]);
});

Deno.test("the DMA register reads as the signature", () => {
  const { ports } = device({});
  assert.deepEqual([ports.read(4, 4), ports.read(8, 4), ports.read(11, 1)], [0x554d4551, 0x47464320, 0x47]);
});

Deno.test("DMA selects, reads across regions, skips, and fills up with zeros", () => {
  const item = Uint8Array.from({ length: 64 }, (_, i) => i + 1);
  const { transfer, memory, next } = device({ [KEY]: item });
  const seam = RAM_BYTES / 2 - 16;
  assert.equal(transfer(KEY << 16 | DMA_SELECT | DMA_READ, 32, seam), 0);
  assert.deepEqual([memory.readU8(seam), memory.readU8(seam + 15), memory.readU8(seam + 16)], [1, 16, 17]);
  assert.equal(transfer(DMA_SKIP, 30, 0), 0);
  assert.deepEqual(next(1), [63]);
  memory.writeU32(0x100, 0xffff_ffff);
  assert.equal(transfer(DMA_READ, 4, 0x100), 0);
  assert.equal(memory.readU32(0x100), 64);
  assert.equal(transfer(KEY << 16 | DMA_SELECT, 0, 0), 0);
  assert.deepEqual(next(1), [1]);
});

Deno.test("DMA that cannot be done is an error", () => {
  const { transfer } = device({ [KEY]: new Uint8Array(8) });
  assert.equal(transfer(KEY << 16 | DMA_SELECT | DMA_WRITE, 4, 0), DMA_ERROR);
  assert.equal(transfer(DMA_READ, 4, RAM_BYTES - 2), DMA_ERROR);
  assert.equal(transfer(DMA_READ, 0xffff_ffff, 0), DMA_ERROR);
  assert.equal(transfer(DMA_READ, 8, 2 ** 52), DMA_ERROR);
});

Deno.test("a DMA structure outside RAM does nothing", () => {
  const { transfer, select, next } = device({ [KEY]: Uint8Array.of(7) });
  select(KEY);
  for (const at of [RAM_BYTES, 2 ** 40, 0xffff_fff0]) assert.equal(transfer(DMA_SKIP, 1, 0, at), -1);
  assert.deepEqual(next(1), [7]);
});

Deno.test("any access to the ports is harmless, and reads give operands of their width", () => {
  const { ports } = device({ 0: Uint8Array.of(1) });
  for (let offset = 0; offset < 12; offset++) {
    for (const size of [1, 2, 4] as const) {
      ports.write(offset, size, 0xffff_ffff);
      const value = ports.read(offset, size);
      assert.ok(Number.isInteger(value) && value >= 0 && value < 2 ** (8 * size), `${value} at ${offset}`);
    }
  }
});

const bytesOf = (items: FwCfgItem[], key: number) => {
  const { content } = items.find((item) => item.key === key)!;
  return "bytes" in content ? [...content.bytes] : content;
};

Deno.test("kernelItems() divides a kernel where its boot sector says, and names the loader", () => {
  const kernel = (sizeBytes: number, sectors: number) => {
    const head = new Uint8Array(sizeBytes).fill(1);
    head[0x1f1] = sectors;
    return kernelItems({ fd: 3, sizeBytes, head });
  };
  const items = kernel(10_000, 7);
  assert.deepEqual(bytesOf(items, 0x17), [0, 0x10, 0, 0]);
  assert.deepEqual(bytesOf(items, 0x11), { fd: 3, offset: 4096, sizeBytes: 5904 });
  const setup = bytesOf(items, 0x18) as number[];
  assert.deepEqual([setup.length, setup[0], setup[0x1f1], setup[0x210]], [4096, 1, 7, 0xff]);
  const silent = kernel(10_000, 0);
  assert.deepEqual(bytesOf(silent, 0x17), [0, 0x0a, 0, 0]);
  assert.equal((bytesOf(silent, 0x18) as number[])[0x1f1], 4);
  assert.deepEqual(bytesOf(kernel(10, 9), 0x08), [0, 0, 0, 0]);
});

Deno.test("fileItems() lists names, sizes and keys", () => {
  const content = { bytes: Uint8Array.of(1, 2) };
  const items = fileItems([{ name: "opt/a", content }, {
    name: "opt/b",
    content: { fd: 5, offset: 0, sizeBytes: 300 },
  }]);
  const directory = Uint8Array.from(bytesOf(items, 0x19) as number[]);
  assert.equal(directory.byteLength, 4 + 2 * 64);
  assert.deepEqual([...directory.subarray(0, 17)], [
    0,
    0,
    0,
    2,
    0,
    0,
    0,
    2,
    0,
    0x20,
    0,
    0,
    ...new TextEncoder().encode("opt/a"),
  ]);
  assert.deepEqual([...directory.subarray(68, 76)], [0, 0, 1, 44, 0, 0x21, 0, 0]);
  assert.throws(() => fileItems([{ name: "x".repeat(56), content }]), /longer than 55 bytes/);
});

Deno.test("fixed items and the command line are as firmware expects them", () => {
  assert.deepEqual(bytesOf(fixedItems(), 1), [3, 0, 0, 0]);
  assert.deepEqual(bytesOf(cmdlineItems("ab"), 0x14), [3, 0, 0, 0]);
  assert.deepEqual(bytesOf(cmdlineItems("ab"), 0x15), [97, 98, 0]);
});

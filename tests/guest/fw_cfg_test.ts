/** The firmware configuration device: its directory, its items through ports and DMA. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Puppet } from "@tests/framework/puppet.ts";
import { guestTest, IS_REFERENCE, startVm } from "./subject.ts";

const SELECTOR = 0x510;
const DATA = 0x511;
const DMA_HIGH = 0x514;
const DMA_LOW = 0x518;
const KEY_DIRECTORY = 0x19;
const DMA_ERROR = 1;
const DMA_READ = 2;
const DMA_SKIP = 4;
const DMA_SELECT = 8;
const DMA_WRITE = 16;
const MIB = 1 << 20;
const ACCESS_GPA = 8 * MIB;
const TARGET_GPA = 9 * MIB;
const ENTRY_BYTES = 64;

/** The beginning of an item, through the data port. */
async function readItem(puppet: Puppet, key: number, length: number): Promise<Uint8Array> {
  const reads = Array.from({ length }, () => ["inb", DATA] as const);
  return Uint8Array.from((await puppet.run(["outw", SELECTOR, key], ...reads)).slice(1));
}

const word = async (puppet: Puppet, key: number) =>
  new DataView((await readItem(puppet, key, 4)).buffer).getUint32(0, true);
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).replace(/\0.*$/s, "");

/** Names in the directory, with keys and lengths. */
async function directory(puppet: Puppet): Promise<Map<string, { key: number; size: number }>> {
  const count = new DataView((await readItem(puppet, KEY_DIRECTORY, 4)).buffer).getUint32(0);
  const bytes = await readItem(puppet, KEY_DIRECTORY, 4 + count * ENTRY_BYTES);
  const view = new DataView(bytes.buffer);
  return new Map(
    Array.from({ length: count }, (_, i) => {
      const at = 4 + i * ENTRY_BYTES;
      const entry = { size: view.getUint32(at), key: view.getUint16(at + 4) };
      return [text(bytes.subarray(at + 8, at + ENTRY_BYTES)), entry];
    }),
  );
}

/** Carries out a DMA; returns what it leaves in the control word. */
async function dma(puppet: Puppet, control: number, length: number, address: number): Promise<number> {
  const access = new DataView(new ArrayBuffer(16));
  access.setUint32(0, control);
  access.setUint32(4, length);
  access.setBigUint64(8, BigInt(address));
  await puppet.writeMemory(ACCESS_GPA, new Uint8Array(access.buffer));
  const swapped = new DataView(Uint32Array.of(ACCESS_GPA).buffer).getUint32(0);
  await puppet.run(["outl", DMA_HIGH, 0], ["outl", DMA_LOW, swapped]);
  return new DataView((await puppet.readMemory(ACCESS_GPA, 4)).buffer).getUint32(0);
}

guestTest("without a configuration there is no firmware configuration device", async () => {
  await using puppet = await Puppet.make();
  await using _vm = await startVm({ args: puppet.args() });
  await puppet.started();
  assert.deepEqual([...await readItem(puppet, 0, 4)], [0xff, 0xff, 0xff, 0xff]);
});

guestTest(
  "kernel, command line, RAM disk, memory map, tables and own items through ports and DMA",
  async (test) => {
    await using puppet = await Puppet.make();
    const initramfs = join(puppet.directory, "initramfs");
    const item = join(puppet.directory, "item");
    await Deno.writeTextFile(initramfs, "a RAM disk ".repeat(1000));
    await Deno.writeTextFile(item, "from a file\n");
    await using _vm = await startVm({
      args: [
        ...puppet.args(),
        ...["--initramfs", initramfs, "--cmdline", "hello world"],
        ...["--fw-cfg-config", `items=[name=opt/file,file=${item}:name=opt/string,string=hallo]`],
      ],
    });
    await puppet.started();
    const kernel = await Deno.readFile(puppet.kernel);

    await test.step("fixed items", async () => {
      assert.equal(text(await readItem(puppet, 0, 9)), "QEMU CFG");
      assert.equal(await word(puppet, 1), 3);
      assert.deepEqual([await word(puppet, 0x0b), await word(puppet, 0x14)], [11_000, 12]);
      assert.equal(text(await readItem(puppet, 0x12, 30)), "a RAM disk a RAM disk a RAM di");
      assert.equal(text(await readItem(puppet, 0x15, 20)), "hello world");
      const [setup, rest] = [await word(puppet, 0x17), await word(puppet, 8)];
      assert.deepEqual([setup, setup + rest], [5 * 512, kernel.length]);
      const head = kernel.slice(0, setup);
      [head[0x1f1], head[0x210]] = [4, 0xff]; // length of the set-up part; who loads
      assert.deepEqual(await readItem(puppet, 0x18, setup), head);
      assert.deepEqual(await readItem(puppet, 0x11, 4096), kernel.subarray(setup, setup + 4096).slice());
    });
    const files = await directory(puppet);
    await test.step("named items", async () => {
      const names = [...files.keys()];
      assert.deepEqual(names.slice(0, 3), ["etc/e820", "opt/file", "opt/string"]);
      assert.deepEqual(names.slice(3), ["etc/table-loader", "acpi/rsdp", "acpi/tables"]);
      assert.deepEqual([...files.values()].map(({ key }) => key), [0x20, 0x21, 0x22, 0x23, 0x24, 0x25]);
      assert.equal(text(await readItem(puppet, 0x21, 40)), "from a file\n");
      assert.equal(text(await readItem(puppet, 0x22, 40)), "hallo");
      const tables = files.get("acpi/tables")!;
      assert.equal(text(await readItem(puppet, tables.key, 4)), "DSDT");
      assert.equal(files.get("acpi/rsdp")!.size, 36);
    });
    await test.step("the memory map", async () => {
      const { key, size } = files.get("etc/e820")!;
      const view = new DataView((await readItem(puppet, key, size)).buffer);
      const entries = Array.from({ length: size / 20 }, (_, i) => [
        Number(view.getBigUint64(20 * i, true)),
        Number(view.getBigInt64(20 * i + 8, true)),
        view.getUint32(20 * i + 16, true),
      ]);
      assert.deepEqual(entries.slice(0, 4), [
        [0, 0xa_0000, 1],
        [0xc000_0000, 0x2800_0000, 2],
        [0xe800_0000, 0x1000_0000, 2],
        [0xfffe_0000, 0x2_0000, 2],
      ]);
      // The original leaves memory zones out.
      const ramBytes = IS_REFERENCE ? 0 : puppet.sizeBytes;
      assert.deepEqual(entries.slice(4), [[MIB, ramBytes - MIB, 1]]);
    });
    if (IS_REFERENCE) return; // its DMA ignores the key to select, and its register has no signature
    await test.step("DMA", async () => {
      const read = (length: number) => puppet.readMemory(TARGET_GPA, length);
      assert.equal(await dma(puppet, 0x12 << 16 | DMA_SELECT | DMA_READ, 11_000, TARGET_GPA), 0);
      assert.deepEqual(await read(11_000), await Deno.readFile(initramfs));
      assert.equal(await dma(puppet, 0x22 << 16 | DMA_SELECT, 0, 0), 0);
      assert.equal(await dma(puppet, DMA_SKIP, 2, 0), 0);
      assert.equal(await dma(puppet, DMA_READ, 3, TARGET_GPA), 0);
      assert.equal(text(await read(3)), "llo");
    });
    await test.step("DMA that cannot be done, and the register's signature", async () => {
      assert.equal(await dma(puppet, 0x22 << 16 | DMA_SELECT | DMA_WRITE, 3, TARGET_GPA), DMA_ERROR);
      assert.equal(await dma(puppet, DMA_READ, 3, 1 << 30), DMA_ERROR);
      await puppet.writeMemory(TARGET_GPA, new Uint8Array(8).fill(0xff));
      assert.equal(await dma(puppet, 0x22 << 16 | DMA_SELECT | DMA_READ, 8, TARGET_GPA), 0);
      assert.deepEqual([...await puppet.readMemory(TARGET_GPA, 8)], [0x68, 0x61, 0x6c, 0x6c, 0x6f, 0, 0, 0]);
      const signature = await puppet.run(["inl", DMA_HIGH], ["inl", DMA_LOW]);
      assert.equal(text(new Uint8Array(Uint32Array.from(signature).buffer)), "QEMU CFG");
    });
  },
);

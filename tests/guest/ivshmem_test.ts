/** Memory shared with the guest through a PCI function. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Puppet } from "@tests/framework/puppet.ts";
import { readPci, writePci } from "@tests/framework/virtio_driver.ts";
import { betterTest, guestTest, startVm } from "./subject.ts";

const MIB = 1 << 20;
const SIZE = 2 * MIB;
const IDENTITY = 0x1110_1af4;
const COMMAND = 0x04;
const CLASS = 0x08;
const BAR0 = 0x10;
const BAR2 = 0x18;
const MEMORY_ENABLE = 2;
const HIGH = 2 ** 32;

/** A puppet with a file of numbered words that it shares. */
class Shared {
  private constructor(readonly puppet: Puppet, readonly path: string) {}

  static async make(puppet: Puppet): Promise<Shared> {
    const path = join(puppet.directory, "shared");
    await Deno.writeFile(path, new Uint8Array(Uint32Array.from({ length: SIZE / 4 }, (_, i) => i).buffer));
    return new Shared(puppet, path);
  }

  get args(): string[] {
    return [...this.puppet.args(), "--ivshmem", `path=${this.path},size=${SIZE}`];
  }

  /** The function's slot. */
  async slot(): Promise<number> {
    for (let slot = 0; slot < 32; slot++) {
      if (await readPci(this.puppet, slot, 0) === IDENTITY) return slot;
    }
    throw new Error("There is no ivshmem function");
  }

  /** A word of the file. */
  async word(offset: number): Promise<number> {
    const bytes = await Deno.readFile(this.path);
    return new DataView(bytes.buffer).getUint32(offset, true);
  }
}

/** Size of a BAR, from the low register. */
async function barSize(puppet: Puppet, slot: number, register: number): Promise<number> {
  const before = await readPci(puppet, slot, register);
  await writePci(puppet, slot, register, 0xffff_ffff);
  const mask = await readPci(puppet, slot, register) & ~0xf;
  await writePci(puppet, slot, register, before);
  return -mask >>> 0;
}

/** Where a 64-bit BAR is. */
async function bar64(puppet: Puppet, slot: number, register: number): Promise<number> {
  const low = (await readPci(puppet, slot, register) & ~0xf) >>> 0;
  return await readPci(puppet, slot, register + 4) * HIGH + low;
}

guestTest("ivshmem shows a file's memory to the guest, and what the guest writes to the file", async () => {
  await using puppet = await Puppet.make();
  const shared = await Shared.make(puppet);
  await using vm = await startVm({ args: shared.args });
  await puppet.started();
  const slot = await shared.slot();
  assert.deepEqual(
    [await readPci(puppet, slot, COMMAND), await readPci(puppet, slot, CLASS)],
    [0, 0x0500_0001],
  );
  assert.deepEqual([await barSize(puppet, slot, BAR0), await barSize(puppet, slot, BAR2)], [256, SIZE]);
  assert.equal(await readPci(puppet, slot, BAR2) & 0xf, 0xc); // 64 bit, prefetchable

  const registers = await puppet.map((await readPci(puppet, slot, BAR0) & ~0xf) >>> 0);
  await puppet.run(["writel", registers, ~0], ["writel", registers + 0xc, 0x1_0000]);
  const shown = await puppet.run(...[0, 4, 8, 0xc].map((at) => ["readl", registers + at] as const));
  assert.deepEqual(shown, [0, 0, 0, 0]);

  const base = await bar64(puppet, slot, BAR2);
  const memory = await puppet.map(base);
  const [first, second] = await puppet.run(["readl", memory], ["readl", memory + 4 * 1000]);
  assert.deepEqual([first, second], [0, 1000]);
  await puppet.run(["writel", memory + 8, 0xdead_beef]);
  assert.equal(await shared.word(8), 0xdead_beef);

  const { config, device_tree } = await vm.api.info();
  assert.deepEqual(config.ivshmem, { pci_segment: 0, path: shared.path, size: SIZE });
  const { resources, pci_bdf } = device_tree.__ivshmem;
  assert.equal(pci_bdf, `0000:00:${slot.toString(16).padStart(2, "0")}.0`);
  assert.deepEqual(resources[1], {
    PciBar: { index: 2, base, size: SIZE, type_: "Mmio64", prefetchable: true },
  });
  await vm.stop();
});

betterTest("ivshmem's memory follows its BAR", "loses it", async () => {
  await using puppet = await Puppet.make();
  const shared = await Shared.make(puppet);
  await using vm = await startVm({ args: shared.args });
  await puppet.started();
  const slot = await shared.slot();
  const before = await bar64(puppet, slot, BAR2);
  const after = before - 64 * MIB;
  await writePci(puppet, slot, BAR2, after % HIGH);
  await writePci(puppet, slot, BAR2 + 4, Math.floor(after / HIGH));
  await writePci(puppet, slot, COMMAND, MEMORY_ENABLE);
  assert.equal(await bar64(puppet, slot, BAR2), after);
  assert.deepEqual(await puppet.run(["readl", await puppet.map(after) + 40]), [10]);
  assert.deepEqual(await puppet.run(["readl", await puppet.map(before) + 40]), [0xffff_ffff]);
  const { device_tree } = await vm.api.info();
  assert.equal(device_tree.__ivshmem.resources[1].PciBar.base, after);
  await vm.stop();
});

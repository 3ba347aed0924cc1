/** Persistent memory: a file in the guest's address space. */
import assert from "node:assert/strict";
import { eventually } from "@tests/framework/deadline.ts";
import { TempDisk } from "@tests/framework/images.ts";
import { HOTPLUG_CPUS, PciHotplug } from "@tests/framework/pci_hotplug.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { DriverMemory, NEEDS_RESET, VirtioDriver } from "@tests/framework/virtio_driver.ts";
import { guestTest, IS_REFERENCE, startVm } from "./subject.ts";

const PMEM = 27;
const MIB = 1 << 20;
const SIZE = 4 * MIB;
const HIGH = 2 ** 32;
const FLUSH = { send: new Uint8Array(4) };
const ALL_ONES = 0xffff_ffff;

/** Where the guest finds the memory, as the device's configuration tells it. */
async function regionOf(driver: VirtioDriver): Promise<{ start: number; sizeBytes: number }> {
  const words = [];
  for (const offset of [0, 4, 8, 12]) words.push(await driver.readConfig(offset));
  return { start: words[0] + words[1] * HIGH, sizeBytes: words[2] + words[3] * HIGH };
}

/** Words of guest memory anywhere in the address space. */
async function readWords(puppet: Puppet, gpa: number, ...offsets: number[]): Promise<number[]> {
  const values = [];
  for (const offset of offsets) {
    const at = await puppet.map(gpa + offset);
    values.push(...await puppet.run(["readl", at]));
  }
  return values;
}

async function fileWords(file: TempDisk, ...offsets: number[]): Promise<number[]> {
  const words = [];
  for (const offset of offsets) {
    words.push(new DataView((await file.read(offset, 4)).buffer).getUint32(0, true));
  }
  return words;
}

for (const discardWrites of [false, true]) {
  const name = discardWrites ? "keeps what the guest writes from the file" : "shows a file, and takes writes";
  guestTest(`persistent memory ${name}`, async () => {
    await using puppet = await Puppet.make();
    await using file = await TempDisk.pattern(SIZE);
    const option = discardWrites ? ",discard_writes=on" : "";
    await using vm = await startVm({ args: [...puppet.args(), "--pmem", `file=${file.path}${option}`] });
    await puppet.started();
    const driver = await VirtioDriver.start(new DriverMemory(puppet), PMEM);
    assert.equal(driver.features, 1n << 32n);
    assert.deepEqual(driver.queues.map(({ maxSize }) => maxSize), [256]);
    const { start, sizeBytes } = await regionOf(driver);
    assert.deepEqual([start % (2 * MIB), sizeBytes], [0, SIZE]);

    const offsets = [0, 512, 2 * MIB + 4, SIZE - 4];
    const before = await fileWords(file, ...offsets);
    assert.deepEqual(await readWords(puppet, start, ...offsets), before);
    const at = await puppet.map(start + 2 * MIB);
    await puppet.run(["writel", at + 4, 0xcafe_f00d], ["writel", at + 2 * MIB - 4, 0x1234_5678]);
    assert.deepEqual(await readWords(puppet, start, ...offsets.slice(2)), [0xcafe_f00d, 0x1234_5678]);

    const { addresses } = await driver.queues[0].submit(FLUSH, { receive: 4 });
    await puppet.writeMemory(addresses[1], new Uint8Array(4).fill(0xee));
    await driver.notify(0);
    assert.equal((await driver.queues[0].complete()).writtenBytes, 4);
    assert.deepEqual([...await puppet.readMemory(addresses[1], 4)], [0, 0, 0, 0]);
    const after = await fileWords(file, ...offsets);
    assert.deepEqual(after, discardWrites ? before : [before[0], before[1], 0xcafe_f00d, 0x1234_5678]);
    assert.equal(await driver.status() & NEEDS_RESET, 0);
    assert.deepEqual((await vm.stop()).code, 0);
  });
}

guestTest("persistent memory of a size: a part of a file, or an unnamed file in a directory", async () => {
  await using puppet = await Puppet.make();
  await using file = await TempDisk.pattern(SIZE);
  await using vm = await startVm({
    args: [
      ...puppet.args(),
      "--pmem",
      `file=${file.path},size=2M,id=part`,
      `file=${file.directory},size=6M,id=unnamed`,
    ],
  });
  await puppet.started();
  const regionIn = async (id: string) => {
    const { device_tree } = await vm.api.info();
    return device_tree[id].resources[0].MmioAddressRange as { base: number; size: number };
  };
  const part = await regionIn("part");
  assert.equal(part.size, 2 * MIB);
  assert.deepEqual(await readWords(puppet, part.base, 0, 1024), await fileWords(file, 0, 1024));
  const unnamed = await regionIn("unnamed");
  assert.equal(unnamed.size, 6 * MIB);
  assert.deepEqual(await readWords(puppet, unnamed.base, 0, 6 * MIB - 4), [0, 0]);
  await puppet.run(["writel", await puppet.map(unnamed.base + 4 * MIB), 77]);
  assert.deepEqual(await readWords(puppet, unnamed.base, 4 * MIB), [77]);
  assert.equal((await Deno.stat(file.path)).size, SIZE);
  assert.deepEqual([...Deno.readDirSync(file.directory)].map(({ name }) => name), ["disk.img"]);
});

guestTest("persistent memory comes and goes while the guest runs", async () => {
  await using puppet = await Puppet.make();
  await using file = await TempDisk.pattern(SIZE);
  await using vm = await startVm({ args: [...puppet.args(), "--cpus", HOTPLUG_CPUS], events: true });
  await puppet.started();
  const slots = new PciHotplug(puppet);
  const memory = new DriverMemory(puppet);
  let start = 0;
  for (let round = 1; round <= 3; round++) {
    const answer = await vm.api.put("vm.add-pmem", { file: file.path, id: "late" });
    assert.deepEqual([answer.status, answer.json()], [200, { id: "late", bdf: "0000:00:02.0" }]);
    assert.equal(await slots.takeAdded(), 2);
    const driver = await VirtioDriver.start(memory, PMEM);
    const region = await regionOf(driver);
    assert.equal(region.sizeBytes, SIZE);
    // The window of the device that went is free again (with the original it is not).
    if (!IS_REFERENCE && round > 1) assert.equal(region.start, start);
    start = region.start;
    await puppet.run(["writel", await puppet.map(start + 8), round]);
    assert.deepEqual(await fileWords(file, 8), [round]);
    await driver.queues[0].submit(FLUSH, { receive: 4 });
    await driver.notify(0);
    await driver.queues[0].complete();

    assert.equal((await vm.api.put("vm.remove-device", { id: "late" })).status, 204);
    assert.equal(await slots.ejectRemoved(), 2);
    await eventually("the device's end", async () => (await vm.api.info()).device_tree.late === undefined);
    assert.deepEqual(await readWords(puppet, start, 8), [ALL_ONES]);
    assert.equal((await vm.api.info()).config.pmem?.length ?? 0, 0);
  }
  const removed = (await vm.events.all()).filter(({ event }) => event === "device-removed");
  assert.deepEqual(
    removed.map(({ properties }) => properties),
    Array(3).fill({ id: "late", bdf: "0000:00:02.0" }),
  );
});

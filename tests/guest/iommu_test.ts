/** The virtual IOMMU: what devices behind it reach, and what they do not. */
import assert from "node:assert/strict";
import { TempDisk } from "@tests/framework/images.ts";
import { IommuDriver } from "@tests/framework/iommu_driver.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { HOTPLUG_CPUS, PciHotplug } from "@tests/framework/pci_hotplug.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { DriverMemory, NEEDS_RESET, VirtioDriver } from "@tests/framework/virtio_driver.ts";
import type { Vm } from "@tests/framework/vm.ts";
import { betterTest, guestTest, startVm } from "./subject.ts";

const MIB = 1 << 20;
const BLOCK = 2;
const RNG = 4;
const SECTOR = 512;
/** struct virtio_blk_req: type 0 is IN, then a priority and the sector. */
const READ_SECTOR_3 = { send: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0) };
/** Devices see guest memory this much higher. */
const OFFSET = 0x7_0000_0000;
const WINDOW = { start: BigInt(OFFSET), end: BigInt(OFFSET + 64 * MIB - 1) };
const DOMAIN = 5;
const READY = 0xf;
const BYPASS = 36;

/** A machine with a disk in slot 1 and the entropy device in slot 2, both behind the IOMMU. */
class Machine implements AsyncDisposable {
  /** Memory of the IOMMU's own driver, and of drivers that see memory through it. */
  readonly direct: DriverMemory;
  readonly translated: DriverMemory;
  readonly disk = 1 << 3;
  readonly rng = 2 << 3;

  private constructor(readonly puppet: Puppet, readonly image: TempDisk, readonly vm: Vm) {
    this.direct = new DriverMemory(puppet);
    this.translated = new DriverMemory(puppet);
    this.direct.take(16 * MIB);
    this.translated.deviceOffset = OFFSET;
  }

  static async start(): Promise<Machine> {
    const puppet = await Puppet.make();
    const image = await TempDisk.pattern(MIB);
    const vm = await startVm({
      args: [
        ...puppet.args(),
        ...["--disk", `path=${image.path},image_type=raw,iommu=on`, "--rng", "src=/dev/urandom,iommu=on"],
      ],
    });
    await puppet.started();
    return new Machine(puppet, image, vm);
  }

  /** The IOMMU with an endpoint attached and its window mapped. */
  async fence(endpoint: number): Promise<IommuDriver> {
    const iommu = await IommuDriver.start(this.direct);
    assert.equal(await iommu.attach(DOMAIN, endpoint), 0);
    assert.equal(await iommu.map(DOMAIN, WINDOW.start, WINDOW.end, 0n), 0);
    return iommu;
  }

  /** Reads sector 3 into a buffer that is full of ones before; returns data and status, or the device's status. */
  async readSector(driver: VirtioDriver): Promise<{ data: Uint8Array; status: number } | number> {
    const queue = driver.queues[0];
    const { addresses } = await queue.submit(READ_SECTOR_3, { receive: SECTOR }, { receive: 1 });
    await this.puppet.writeMemory(addresses[1], new Uint8Array(SECTOR).fill(0xff));
    await this.puppet.writeMemory(addresses[2], Uint8Array.of(0xff));
    await driver.notify(0);
    const failed = await eventually("an answer of the disk", async () => {
      if (await queue.poll() !== undefined) return { status: READY };
      const status = await driver.status();
      return (status & NEEDS_RESET) !== 0 ? { status } : undefined;
    });
    const status = (await this.puppet.readMemory(addresses[2], 1))[0];
    if (failed.status !== READY || status === 0xff) return failed.status;
    return { data: await this.puppet.readMemory(addresses[1], SECTOR), status };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.vm[Symbol.asyncDispose]();
    await this.image[Symbol.asyncDispose]();
    await this.puppet[Symbol.asyncDispose]();
  }
}

guestTest("a disk is read through a mapping, and not without it", async () => {
  await using machine = await Machine.start();
  const { image, translated, vm } = machine;
  const iommu = await machine.fence(machine.disk);
  const disk = await VirtioDriver.start(translated, BLOCK);
  assert.notEqual(disk.features & 1n << 33n, 0n);
  assert.equal(disk.features & 1n << 28n, 0n); // no indirect descriptors
  const expected = { data: await image.read(3 * SECTOR, SECTOR), status: 0 };
  assert.deepEqual(await machine.readSector(disk), expected);

  assert.equal(await iommu.unmap(DOMAIN, WINDOW.start, WINDOW.end), 0);
  const failed = await machine.readSector(disk);
  assert.equal(typeof failed, "number", "the disk reached memory that is not mapped");

  assert.equal(await iommu.map(DOMAIN, WINDOW.start, WINDOW.end, 0n), 0);
  await disk.restart();
  assert.deepEqual(await machine.readSector(disk), expected);
  // Other devices and the VMM go on.
  assert.equal((await vm.api.info()).state, "Running");
  assert.deepEqual((await vm.stop()).code, 0);
});

betterTest(
  "buffers may lie in many mappings, in any order",
  "knows buffers in one mapping only",
  async () => {
    await using machine = await Machine.start();
    const { image, translated, puppet } = machine;
    const iommu = await IommuDriver.start(machine.direct);
    await iommu.attach(DOMAIN, machine.disk);
    // Rings where they are, buffers far apart: two pages of the device's are four MiB from each other, backwards.
    const rings = BigInt(OFFSET + 8 * MIB);
    assert.equal(await iommu.map(DOMAIN, rings, rings + BigInt(4 * MIB - 1), BigInt(8 * MIB)), 0);
    const buffer = 0x1234_5000n;
    assert.equal(await iommu.map(DOMAIN, buffer, buffer + 0xfffn, BigInt(44 * MIB)), 0);
    assert.equal(await iommu.map(DOMAIN, buffer + 0x1000n, buffer + 0x1fffn, BigInt(40 * MIB)), 0);
    const disk = await VirtioDriver.start(translated, BLOCK);
    const queue = disk.queues[0];
    await queue.submit(READ_SECTOR_3, { receive: SECTOR }, { receive: 1 });
    // The second descriptor is moved to the end of the first page.
    const view = new DataView(new ArrayBuffer(8));
    view.setBigUint64(0, buffer + 0xf00n, true);
    await puppet.writeMemory(queue.descriptors + 16, new Uint8Array(view.buffer));
    await disk.notify(0);
    await queue.complete();
    const data = await image.read(3 * SECTOR, SECTOR);
    assert.deepEqual(await puppet.readMemory(44 * MIB + 0xf00, 0x100), data.slice(0, 0x100));
    assert.deepEqual(await puppet.readMemory(40 * MIB, 0x100), data.slice(0x100));
  },
);

/** Bytes the entropy device gives now, or nothing if it cannot. */
async function random(machine: Machine, driver: VirtioDriver): Promise<number> {
  const queue = driver.queues[0];
  await queue.submit({ receive: 64 });
  await driver.notify(0);
  const done = await eventually("an answer of the entropy device", async () => {
    const completion = await queue.poll();
    if (completion !== undefined) return completion;
    return (await driver.status() & NEEDS_RESET) !== 0 ? { writtenBytes: 0 } : undefined;
  });
  assert.equal((await machine.vm.api.info()).state, "Running");
  return done.writtenBytes;
}

guestTest("a device reaches everything until the driver takes bypass away", async () => {
  await using machine = await Machine.start();
  const rng = await VirtioDriver.start(machine.direct, RNG);
  assert.equal(await random(machine, rng), 64);
  const iommu = await IommuDriver.start(machine.direct);
  const bypass = async (value: number) => {
    await iommu.device.writeConfigByte(BYPASS, value);
    return await iommu.device.readConfig(BYPASS);
  };
  assert.equal(await iommu.device.readConfig(BYPASS), 0);
  assert.equal(await random(machine, rng), 64);
  assert.deepEqual([await bypass(1), await random(machine, rng)], [1, 64]);
  assert.deepEqual([await bypass(0), await random(machine, rng)], [0, 0]);
  assert.deepEqual([await bypass(1), await bypass(2)], [1, 0]);
  assert.equal(await bypass(1), 1);
  await rng.restart();
  assert.equal(await random(machine, rng), 64);
  // A domain that passes everything needs no mapping, and takes none.
  assert.equal(await bypass(0), 0);
  assert.equal(await iommu.attach(DOMAIN, machine.rng, 1), 0);
  assert.equal(await random(machine, rng), 64);
  assert.equal(await iommu.map(DOMAIN, 0x1000n, 0x1fffn, 0n), 4);
});

betterTest("mappings are for reading or for writing", "lets devices read and write any mapping", async () => {
  await using machine = await Machine.start();
  const iommu = await machine.fence(machine.rng);
  const rng = await VirtioDriver.start(machine.translated, RNG);
  assert.equal(await random(machine, rng), 64);
  assert.equal(await iommu.unmap(DOMAIN, WINDOW.start, WINDOW.end), 0);
  assert.equal(await iommu.map(DOMAIN, WINDOW.start, WINDOW.end, 0n, 1), 0);
  assert.equal(await random(machine, rng), 0);
  await rng.restart(); // its used ring may not be written either
  assert.notEqual(await rng.status() & NEEDS_RESET, 0);
});

betterTest("the IOMMU's driver is told of a refused access", "does not tell", async () => {
  await using machine = await Machine.start();
  const iommu = await machine.fence(machine.rng);
  const rng = await VirtioDriver.start(machine.translated, RNG);
  assert.equal(await random(machine, rng), 64);
  assert.equal(await iommu.unmap(DOMAIN, WINDOW.start, WINDOW.end), 0);
  const events = iommu.device.queues[1];
  const { addresses } = await events.submit({ receive: 24 });
  await iommu.device.notify(1);
  assert.equal(await random(machine, rng), 0);
  assert.equal((await events.complete()).writtenBytes, 24);
  const fault = new DataView((await machine.puppet.readMemory(addresses[0], 24)).buffer);
  const word = (offset: number) => fault.getUint32(offset, true);
  assert.deepEqual([word(0), word(4), word(8)], [2, 0x102, machine.rng]); // no mapping, a write
  const address = Number(fault.getBigUint64(16, true));
  assert.ok(address > OFFSET && address < OFFSET + 64 * MIB, `0x${address.toString(16)}`);
});

betterTest("a reset of the IOMMU detaches everything", "keeps domains and mappings", async () => {
  await using machine = await Machine.start();
  const iommu = await machine.fence(machine.rng);
  await iommu.device.restart();
  assert.equal(await iommu.map(DOMAIN, WINDOW.start, WINDOW.end, 0n), 6);
  const rng = await VirtioDriver.start(machine.direct, RNG);
  assert.equal(await random(machine, rng), 64);
});

guestTest("pause keeps mappings, a reboot starts without", async () => {
  await using machine = await Machine.start();
  const { image, vm, puppet, translated } = machine;
  await machine.fence(machine.disk);
  const disk = await VirtioDriver.start(translated, BLOCK);
  await vm.api.mustPut("vm.pause");
  await vm.api.mustPut("vm.resume");
  const expected = { data: await image.read(3 * SECTOR, SECTOR), status: 0 };
  assert.deepEqual(await machine.readSector(disk), expected);
  const before = (await vm.api.info()).device_tree;
  await vm.api.mustPut("vm.reboot");
  await puppet.started(2);
  assert.deepEqual((await vm.api.info()).device_tree, before);
  const again = await VirtioDriver.start(machine.direct, BLOCK);
  assert.deepEqual(await machine.readSector(again), expected);
  const iommu = await IommuDriver.start(machine.direct);
  assert.equal(await iommu.map(DOMAIN, WINDOW.start, WINDOW.end, 0n), 6);
});

betterTest("the IOMMU has the endpoints the firmware tables list", "takes any number", async () => {
  await using machine = await Machine.start();
  const iommu = await IommuDriver.start(machine.direct);
  const all = [0, 3 << 3, machine.disk + 1, 0x1_0008, 0xffff_ffff];
  for (const endpoint of all) assert.equal(await iommu.attach(1, endpoint), 6, `endpoint ${endpoint}`);
});

guestTest("a disk that comes to a segment behind the IOMMU is behind it", async () => {
  await using puppet = await Puppet.make();
  await using image = await TempDisk.pattern(MIB);
  await using vm = await startVm({
    args: [
      ...puppet.args(),
      ...["--platform", "num_pci_segments=2,iommu_segments=[1]", "--cpus", HOTPLUG_CPUS],
    ],
  });
  await puppet.started();
  const { config, device_tree } = await vm.api.info();
  assert.equal(config.iommu, true);
  assert.equal(device_tree["_virtio-pci-__iommu"].pci_bdf, "0000:00:02.0");
  const iommu = await IommuDriver.start(new DriverMemory(puppet));
  assert.equal(await iommu.attach(1, 0x1_0000), 0);
  const disk = { path: image.path, image_type: "Raw", pci_segment: 1, id: "late" };
  assert.equal((await vm.api.put("vm.add-disk", disk)).status, 400);
  const refused = await vm.api.put("vm.add-disk", { ...disk, pci_segment: 0, iommu: true });
  assert.deepEqual([refused.status, refused.json<string[]>().at(-1)], [
    500,
    "Cannot hotplug device behind vIOMMU",
  ]);
  const added = await vm.api.put("vm.add-disk", { ...disk, iommu: true });
  assert.deepEqual([added.status, added.json()], [200, { id: "late", bdf: "0001:00:00.0" }]);
  const slots = new PciHotplug(puppet);
  assert.equal(await slots.takeAdded(1), 0);
  assert.equal((await vm.api.put("vm.remove-device", { id: "late" })).status, 204);
  assert.equal(await slots.ejectRemoved(1), 0);
  await eventually("the disk's end", async () => (await vm.api.info()).device_tree.late === undefined);
});

/**
 * A guest's driver breaks one device after the other: that device asks for a reset, all else goes on.
 *
 * By a puppet, on both programs; what the original does otherwise is in docs/differences.md.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { eventually } from "@tests/framework/deadline.ts";
import { TempDisk } from "@tests/framework/images.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { type Buffer, DriverMemory, NEEDS_RESET, VirtioDriver } from "@tests/framework/virtio_driver.ts";
import type { Vm } from "@tests/framework/vm.ts";
import { betterTest, guestTest, IS_REFERENCE, startVm } from "./subject.ts";

const MIB = 1 << 20;
const SECTOR = 512;
const BLOCK = 2;
const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;
/** No memory there. */
const NOWHERE = 0x6000_0000;

/** A device, a request it answers by itself, and the queue for both the good and the bad. */
interface Victim {
  readonly name: string;
  readonly virtioId: number;
  readonly nth?: number;
  readonly queue: number;
  readonly request: () => Buffer[];
}

const readSector = (): Buffer[] => [{ send: new Uint8Array(16) }, { receive: SECTOR }, { receive: 1 }];

const VICTIMS: Victim[] = [
  { name: "block", virtioId: BLOCK, nth: 1, queue: 0, request: readSector },
  { name: "net, sending", virtioId: 1, queue: 1, request: () => [{ send: new Uint8Array(72) }] },
  {
    name: "net, control",
    virtioId: 1,
    queue: 2,
    request: () => [{ send: Uint8Array.of(4, 0) }, { send: Uint8Array.of(1, 0) }, { receive: 1 }],
  },
  { name: "console", virtioId: 3, queue: 1, request: () => [{ send: Uint8Array.of(0x41) }] },
  { name: "rng", virtioId: 4, queue: 0, request: () => [{ receive: 16 }] },
  { name: "balloon", virtioId: 5, queue: 1, request: () => [{ send: Uint8Array.of(0, 8, 0, 0) }] },
  {
    name: "clock",
    virtioId: 17,
    queue: 0,
    request: () => [{ send: Uint8Array.of(0, 16, 0, 0, 0, 0, 0, 0) }, { receive: 16 }],
  },
  { name: "pmem", virtioId: 27, queue: 0, request: () => [{ send: new Uint8Array(4) }, { receive: 4 }] },
  { name: "watchdog", virtioId: 35, queue: 0, request: () => [{ receive: 4 }] },
];

/** A descriptor as it lies in memory. */
function descriptor(address: number, length: number, flags: number, next: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(16));
  view.setBigUint64(0, BigInt(address), true);
  view.setUint32(8, length, true);
  view.setUint16(12, flags, true);
  view.setUint16(14, next, true);
  return new Uint8Array(view.buffer);
}

/** Ways to break a queue: writes rings by hand. `next` is the entry the device takes next. */
const FAULTS: Record<string, (driver: VirtioDriver, queue: number) => Promise<void>> = {
  "a chain that loops": async (driver, index) => {
    const { memory: { puppet }, descriptors } = driver.queues[index];
    await puppet.writeMemory(descriptors, descriptor(4096, 8, NEXT | WRITE, 0));
    await offer(driver, index, 0, 1);
  },
  "a head that is no descriptor": (driver, index) => offer(driver, index, 0x7fff, 1),
  "a buffer outside memory": async (driver, index) => {
    const { memory: { puppet }, descriptors } = driver.queues[index];
    const length = 64;
    await puppet.writeMemory(descriptors, descriptor(NOWHERE, length, NEXT, 1));
    await puppet.writeMemory(descriptors + 16, descriptor(NOWHERE, length, NEXT | WRITE, 2));
    await puppet.writeMemory(descriptors + 32, descriptor(NOWHERE, length, WRITE, 0));
    await offer(driver, index, 0, 1);
  },
  "an index far ahead": (driver, index) => offer(driver, index, 0, 0x4000),
  "an indirect table in an indirect table": async (driver, index) => {
    const { memory, descriptors } = driver.queues[index];
    const table = memory.take(64);
    await memory.puppet.writeMemory(table, descriptor(table, 16, INDIRECT, 0));
    await memory.puppet.writeMemory(descriptors, descriptor(table, 16, INDIRECT, 0));
    await offer(driver, index, 0, 1);
  },
};

/** Fills the whole available ring with a head and sets the index. */
async function offer(driver: VirtioDriver, index: number, head: number, available: number): Promise<void> {
  const queue = driver.queues[index];
  const words = new Uint16Array(queue.size + 2).fill(head);
  words[0] = 0;
  words[1] = available;
  await queue.memory.puppet.writeMemory(queue.available, new Uint8Array(words.buffer));
  await driver.notify(index);
}

/** Sends a good request and waits for its answer. */
async function serve(driver: VirtioDriver, queue: number, request: Buffer[]): Promise<void> {
  await driver.queues[queue].submit(...request);
  await driver.notify(queue);
  await eventually("a finished request", async () => {
    if (IS_REFERENCE) await driver.notify(queue); // it loses a notification now and then
    return await driver.queues[queue].poll();
  });
}

const DIFFERENT = "asks for no reset, and dies of some of these";

/** The machine, and a disk that has to work all the time. */
async function machine(
  puppet: Puppet,
  disks: TempDisk[],
  network: NetworkNamespace,
  file: TempDisk,
): Promise<Vm> {
  return await startVm({
    netns: network.name,
    args: [
      ...puppet.args().map((arg, i, all) => all[i - 1] === "--console" ? "file={dir}/console" : arg),
      ...["--disk", ...disks.map(({ path }) => `path=${path},image_type=raw`)],
      ...["--net", "tap=tap0,mac=2e:00:00:00:00:01"],
      ...["--rng", "src=/dev/urandom", "--balloon", "size=0", "--watchdog", "--rtc", "id=clock"],
      ...["--pmem", `file=${file.path}`],
    ],
  });
}

betterTest(
  "a driver that breaks its device is told, and nothing else takes notice",
  DIFFERENT,
  async (test) => {
    await using first = await TempDisk.pattern(MIB);
    await using second = await TempDisk.pattern(MIB);
    await using file = await TempDisk.pattern(2 * MIB);
    await using network = await NetworkNamespace.create();
    await network.addTap("tap0");
    await using puppet = await Puppet.make();
    await using vm = await machine(puppet, [first, second], network, file);
    await puppet.started();
    const memory = new DriverMemory(puppet);
    const healthy = await VirtioDriver.start(memory, BLOCK);
    /** The VMM and the other disk are as they should be. */
    const allIsWell = async () => {
      await serve(healthy, 0, readSector());
      assert.equal(await healthy.status() & NEEDS_RESET, 0);
      assert.equal((await vm.api.get("vmm.ping")).status, 200);
      assert.equal((await vm.api.info()).state, "Running");
    };
    await allIsWell();
    for (const victim of VICTIMS) {
      for (const [fault, breakIt] of Object.entries(FAULTS)) {
        await test.step(`${victim.name}: ${fault}`, async () => {
          const driver = await VirtioDriver.start(memory, victim.virtioId, ~0n, 16, victim.nth);
          await serve(driver, victim.queue, victim.request());
          await driver.restart();
          await breakIt(driver, victim.queue);
          await eventually("the wish for a reset", async () => await driver.status() & NEEDS_RESET);
          await allIsWell();
          await driver.restart();
          assert.equal(await driver.status() & NEEDS_RESET, 0);
          await serve(driver, victim.queue, victim.request());
          await allIsWell();
        });
      }
    }
    const figures = (await vm.api.get("/metrics")).body;
    const faults = VICTIMS.length * Object.keys(FAULTS).length;
    const counted = [...figures.matchAll(/^nephos_driver_faults_total\{device="[^"]+"\} (\d+)$/gm)];
    assert.equal(counted.reduce((sum, [, count]) => sum + Number(count), 0), faults);
    assert.match(figures, /^nephos_driver_faults_total\{device="_disk1"\} 5$/m);
    assert.ok(vm.stderr.text.includes('Device "_disk1" needs a reset: '), vm.stderr.text);
    assert.deepEqual(await vm.stop(), { code: 0, signal: null });
    assert.equal((await Deno.stat(join(first.path))).size, MIB);
  },
  { root: true, commands: ["ip"] },
);

/** Ways that both programs survive. */
const SURVIVED = ["a head that is no descriptor", "a buffer outside memory"];

guestTest("what a driver does to a disk does not concern the other disk, the guest and the API", async () => {
  for (const fault of SURVIVED) {
    await using first = await TempDisk.pattern(MIB);
    await using second = await TempDisk.pattern(MIB);
    await using puppet = await Puppet.make();
    const disks = [first, second].map(({ path }) => `path=${path},image_type=raw`);
    await using vm = await startVm({ args: [...puppet.args(), "--disk", ...disks] });
    await puppet.started();
    const memory = new DriverMemory(puppet);
    const healthy = await VirtioDriver.start(memory, BLOCK);
    const broken = await VirtioDriver.start(memory, BLOCK, ~0n, 16, 1);
    await FAULTS[fault](broken, 0);
    for (let i = 0; i < 3; i++) await serve(healthy, 0, readSector());
    assert.equal((await vm.api.get("vmm.ping")).status, 200);
    assert.equal((await vm.api.info()).state, "Running");
    await broken.restart();
    await serve(broken, 0, readSector());
    assert.deepEqual(await vm.stop(), { code: 0, signal: null });
  }
});

betterTest(
  "a driver that breaks its device for ever does not flood the log",
  "tells of every one",
  async () => {
    await using puppet = await Puppet.make();
    await using vm = await startVm({ args: [...puppet.args(), "--rng", "src=/dev/urandom"] });
    await puppet.started();
    const memory = new DriverMemory(puppet);
    const driver = await VirtioDriver.start(memory, 4);
    const times = 40;
    const startedMs = performance.now();
    for (let i = 0; i < times; i++) {
      if (i > 0) await driver.restart();
      await offer(driver, 0, 0x7fff, 1);
      await eventually("the wish for a reset", async () => await driver.status() & NEEDS_RESET);
    }
    assert.match((await vm.api.get("/metrics")).body, /^nephos_driver_faults_total\{device="__rng"\} 40$/m);
    const lines = vm.stderr.text.split("\n").filter((line) => line.includes("needs a reset"));
    // A burst of ten, then one a second, which tells of those that were held back.
    const most = 10 + Math.ceil((performance.now() - startedMs) / 1_000);
    assert.ok(lines.length >= 10 && lines.length <= most, `${lines.length} lines, at most ${most}`);
    const heldBack = lines.map((line) => Number(/\((\d+) more like this not shown\)/.exec(line)?.[1] ?? 0));
    assert.ok(lines.length + heldBack.reduce((sum, count) => sum + count) <= times, lines.join("\n"));
  },
);

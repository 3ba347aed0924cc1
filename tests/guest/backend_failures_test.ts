/**
 * Back-ends that fail under a running guest: what the driver is told, and that everything else goes on. By a puppet, on both
 * programs; what the original does otherwise is in docs/differences.md.
 */
import assert from "node:assert/strict";
import { BlockDriver, S, SECTOR, T } from "@tests/framework/block_driver.ts";
import { run } from "@tests/framework/command.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { patternSector, TempDisk } from "@tests/framework/images.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { DriverMemory, NEEDS_RESET, VirtioDriver } from "@tests/framework/virtio_driver.ts";
import type { Vm } from "@tests/framework/vm.ts";
import { betterTest, guestTest, startVm } from "./subject.ts";

const MIB = 1 << 20;
const NET = 1;

async function isWell(vm: Vm): Promise<void> {
  assert.equal((await vm.api.get("vmm.ping")).status, 200);
  assert.equal((await vm.api.info()).state, "Running");
}

betterTest(
  "a disk whose file is cut short: an error for what is gone, data for the rest",
  "reads as successful what is not there",
  async () => {
    await using file = await TempDisk.pattern(4 * MIB);
    await using other = await TempDisk.pattern(MIB);
    await using puppet = await Puppet.make();
    const disks = [file, other].map(({ path }) => `path=${path},image_type=raw`);
    await using vm = await startVm({ args: [...puppet.args(), "--disk", ...disks] });
    await puppet.started();
    const memory = new DriverMemory(puppet);
    const disk = await BlockDriver.start(memory);
    const second = await BlockDriver.start(memory, 1);
    await Deno.truncate(file.path, 2 * MIB);
    const gone = await disk.request(T.in, 3 * MIB / SECTOR, { receive: SECTOR });
    assert.equal(gone.status, S.ioError);
    assert.deepEqual(await disk.read(5), Uint8Array.from(patternSector(5)));
    assert.deepEqual(await second.read(5), Uint8Array.from(patternSector(5)));
    assert.equal(await disk.virtio.status() & NEEDS_RESET, 0);
    await isWell(vm);
    // What the guest writes there makes the file longer again.
    await disk.write(3 * MIB / SECTOR, new Uint8Array(SECTOR).fill(1));
    assert.deepEqual(await disk.read(3 * MIB / SECTOR), new Uint8Array(SECTOR).fill(1));
    assert.deepEqual(await disk.read(3 * MIB / SECTOR - 8), new Uint8Array(SECTOR));
  },
);

/** A file system that is full after `sizeBytes`. */
async function smallFileSystem(sizeBytes: number): Promise<AsyncDisposable & { directory: string }> {
  const directory = await Deno.makeTempDir({ prefix: "nephos-small-" });
  await run("mount", "-t", "tmpfs", "-o", `size=${sizeBytes}`, "tmpfs", directory);
  return {
    directory,
    [Symbol.asyncDispose]: async () => {
      await run("umount", directory);
      await Deno.remove(directory);
    },
  };
}

guestTest("a host file system that is full: errors for writes that need room, others go on", async () => {
  await using full = await smallFileSystem(2 * MIB);
  const path = `${full.directory}/disk`;
  await Deno.writeFile(path, new Uint8Array(MIB).fill(9));
  await Deno.truncate(path, 16 * MIB);
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: [...puppet.args(), "--disk", `path=${path},image_type=raw`] });
  await puppet.started();
  const disk = await BlockDriver.start(new DriverMemory(puppet));
  const data = { send: new Uint8Array(64 * 1024).fill(3) };
  const statuses: number[] = [];
  for (let at = 4 * MIB; at < 8 * MIB; at += 64 * 1024) {
    statuses.push((await disk.request(T.out, at / SECTOR, data)).status);
  }
  assert.deepEqual([...new Set(statuses)].sort(), [S.ok, S.ioError]);
  assert.equal(statuses.at(-1), S.ioError);
  await disk.write(0, new Uint8Array(SECTOR).fill(4));
  assert.deepEqual(await disk.read(0), new Uint8Array(SECTOR).fill(4));
  assert.deepEqual(await disk.read(1), new Uint8Array(SECTOR).fill(9));
  assert.equal(await disk.virtio.status() & NEEDS_RESET, 0);
  await isWell(vm);
}, { root: true, commands: ["mount"] });

betterTest(
  "a network interface that is deleted under the guest harms nothing else",
  "is killed by SIGSYS",
  async () => {
    await using network = await NetworkNamespace.create();
    await network.addTap("gone0");
    await using file = await TempDisk.pattern(MIB);
    await using puppet = await Puppet.make();
    await using vm = await startVm({
      netns: network.name,
      args: [
        ...puppet.args(),
        ...["--net", "tap=gone0,mac=2e:00:00:00:00:01"],
        ...["--disk", `path=${file.path},image_type=raw`],
      ],
    });
    await puppet.started();
    const memory = new DriverMemory(puppet);
    const net = await VirtioDriver.start(memory, NET, ~(1n << 29n));
    const disk = await BlockDriver.start(memory);
    const frame = new Uint8Array(72).fill(0xff, 12, 24);
    const send = async () => {
      await net.queues[1].submit({ send: frame });
      await net.notify(1);
    };
    await send();
    await eventually("a packet sent", () => net.queues[1].poll());
    await network.exec("ip", "link", "delete", "gone0");
    for (let i = 0; i < 5; i++) await send();
    for (let i = 0; i < 5; i++) assert.deepEqual(await disk.read(i), Uint8Array.from(patternSector(i)));
    await isWell(vm);
    await vm.api.mustPut("vm.pause");
    await vm.api.mustPut("vm.resume");
    assert.deepEqual(await disk.read(9), Uint8Array.from(patternSector(9)));
    assert.deepEqual(await vm.stop(), { code: 0, signal: null });
  },
  { root: true, commands: ["ip"] },
);

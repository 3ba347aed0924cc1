/**
 * Block devices as a guest finds them: features, sizes, statuses, and what becomes of the file. By a puppet, on both programs.
 *
 * The names in front are those of the original's own tests (docs/upstream-tests.md).
 */
import assert from "node:assert/strict";
import { eventually } from "@tests/framework/deadline.ts";
import { BlockDriver, F, S, SECTOR, T } from "@tests/framework/block_driver.ts";
import { run } from "@tests/framework/command.ts";
import { patternSector, TempDisk } from "@tests/framework/images.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { DriverMemory } from "@tests/framework/virtio_driver.ts";
import type { Vm } from "@tests/framework/vm.ts";
import { guestTest, IS_REFERENCE, startVm } from "./subject.ts";

const MIB = 1 << 20;
const KIB = 1024;
const UNMAP = 1;

/** A guest with one disk. */
async function withDisk(
  option: string,
  body: (disk: BlockDriver, vm: Vm, puppet: Puppet) => Promise<void>,
): Promise<void> {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: [...puppet.args(), "--cpus", "boot=4", "--disk", option] });
  await puppet.started();
  await body(await BlockDriver.start(new DriverMemory(puppet)), vm, puppet);
  assert.deepEqual(await vm.stop(), { code: 0, signal: null });
}

const ENGINES: Record<string, string> = {
  io_uring: "",
  aio: ",_disable_io_uring=on",
  sync: ",_disable_io_uring=on,_disable_aio=on",
};

for (const [engine, keys] of Object.entries(ENGINES)) {
  guestTest(`test_virtio_block_${engine}: a read-only disk of 16 MiB with four queues`, async () => {
    await using file = await TempDisk.pattern(16 * MIB);
    const before = await file.sha256();
    await withDisk(
      `path=${file.path},image_type=raw,readonly=on,num_queues=4,direct=on${keys}`,
      async (disk) => {
        assert.equal(await disk.capacityBytes(), 16 * MIB);
        assert.deepEqual([disk.has(F.readonly), disk.has(F.mq), await disk.field("numQueues")], [
          true,
          true,
          4,
        ]);
        for (const queue of [0, 1, 2, 3]) {
          const sector = 7 + 4096 * queue;
          assert.deepEqual(await disk.read(sector, 1, queue), Uint8Array.from(patternSector(sector)));
        }
        const data = { send: new Uint8Array(SECTOR) };
        assert.equal((await disk.request(T.out, 0, data)).status, S.ioError);
        assert.equal((await disk.request(T.in, 16 * MIB / SECTOR, { receive: SECTOR })).status, S.ioError);
        assert.equal((await disk.request(77, 0, { receive: SECTOR })).status, S.ioError);
      },
    );
    assert.equal(await file.sha256(), before);
  });
}

guestTest("a disk's serial number, seg_max, flush, and requests beyond its end", async () => {
  await using file = await TempDisk.empty(MIB);
  await withDisk(`path=${file.path},image_type=raw,serial=ABC-123,queue_size=128`, async (disk) => {
    assert.equal(await disk.field("segMax"), 126);
    const { status, data } = await disk.request(T.getId, 0, { receive: 20 });
    assert.deepEqual([status, new TextDecoder().decode(data).replace(/\0+$/, "")], [S.ok, "ABC-123"]);
    await disk.write(2047, new Uint8Array(SECTOR).fill(7));
    await disk.flush();
    assert.equal((await disk.request(T.out, 2047, { send: new Uint8Array(2 * SECTOR) })).status, S.ioError);
    assert.equal((await disk.request(77, 0, { receive: SECTOR })).status, S.unsupported);
    // The original returns a request without data as it is, unless it is a flush.
    if (!IS_REFERENCE) assert.equal((await disk.request(77, 0)).status, S.unsupported);
  });
  assert.deepEqual(await file.read(MIB - SECTOR, SECTOR), new Uint8Array(SECTOR).fill(7));
});

guestTest("test_virtio_block_discard_raw, _raw_aio: the host gets the blocks back", async () => {
  for (const keys of Object.values(ENGINES)) {
    await using file = await TempDisk.pattern(8 * MIB);
    const full = await file.allocatedBytes();
    await withDisk(`path=${file.path},image_type=raw${keys}`, async (disk) => {
      assert.ok(disk.has(F.discard) && await disk.field("maxDiscardSectors") > 0);
      assert.equal(await disk.range(T.discard, 2 * MIB / SECTOR, 4 * MIB / SECTOR), S.ok);
      await disk.flush();
      assert.ok(await file.allocatedBytes() <= full - 4 * MIB + 64 * KIB);
      assert.deepEqual(await disk.read(2 * MIB / SECTOR), new Uint8Array(SECTOR));
      assert.deepEqual(await disk.read(6 * MIB / SECTOR), Uint8Array.from(patternSector(6 * MIB / SECTOR)));
      // Flags are for write-zeroes; a range must lie on the disk.
      assert.equal(await disk.range(T.discard, 0, 8, UNMAP), S.unsupported);
      assert.equal(await disk.range(T.discard, 8 * MIB / SECTOR - 4, 8), S.ioError);
    });
  }
});

guestTest("test_virtio_block_write_zeroes_unmap_raw: zeroes with and without giving space back", async () => {
  await using file = await TempDisk.pattern(8 * MIB);
  const full = await file.allocatedBytes();
  await withDisk(`path=${file.path},image_type=raw`, async (disk) => {
    assert.ok(disk.has(F.writeZeroes));
    assert.equal(await disk.field("mayUnmap"), 1);
    assert.equal(await disk.range(T.writeZeroes, 0, MIB / SECTOR), S.ok);
    assert.ok(await file.allocatedBytes() >= full - 64 * KIB, "the space stays");
    assert.equal(await disk.range(T.writeZeroes, 4 * MIB / SECTOR, 2 * MIB / SECTOR, UNMAP), S.ok);
    assert.ok(await file.allocatedBytes() <= full - 2 * MIB + 64 * KIB, "the space goes");
    for (const sector of [0, MIB / SECTOR - 1, 4 * MIB / SECTOR, 6 * MIB / SECTOR - 1]) {
      assert.deepEqual(await disk.read(sector), new Uint8Array(SECTOR));
    }
    assert.deepEqual(await disk.read(MIB / SECTOR), Uint8Array.from(patternSector(MIB / SECTOR)));
  });
});

guestTest("test_virtio_block_sparse_off_raw: the file is allocated, and nothing is given back", async () => {
  await using file = await TempDisk.empty(8 * MIB);
  await withDisk(`path=${file.path},image_type=raw,sparse=off`, async (disk) => {
    assert.deepEqual([disk.has(F.discard), disk.has(F.writeZeroes)], [false, true]);
    assert.equal(await disk.field("mayUnmap"), 0);
    assert.ok(await file.allocatedBytes() >= 8 * MIB);
    // The original discards although it does not offer to.
    if (!IS_REFERENCE) assert.equal(await disk.range(T.discard, 0, 64), S.unsupported);
    assert.equal(await disk.range(T.writeZeroes, 0, MIB / SECTOR), S.ok);
    assert.ok(await file.allocatedBytes() >= 8 * MIB);
  });
});

/** A loop device over a file. */
async function loopDevice(path: string, sectorBytes: number): Promise<AsyncDisposable & { path: string }> {
  const device = (await run("losetup", "--find", "--show", "--sector-size", `${sectorBytes}`, path)).trim();
  return { path: device, [Symbol.asyncDispose]: async () => void await run("losetup", "--detach", device) };
}

const hasLoop = await run("losetup", "--find").then(() => true, () => false);
const NEEDS_LOOP = { root: true, commands: ["losetup", ...(hasLoop ? [] : ["/dev/loop-control"])] };

guestTest(
  "test_virtio_block_topology, _direct_io_block_device_alignment_4k: a device with 4 KiB sectors",
  async () => {
    await using file = await TempDisk.pattern(8 * MIB);
    await using device = await loopDevice(file.path, 4096);
    for (const direct of ["off", "on"]) {
      await withDisk(`path=${device.path},image_type=raw,direct=${direct}`, async (disk) => {
        assert.ok(disk.has(F.topology) && disk.has(F.blockSize));
        assert.deepEqual(
          [await disk.field("blockSize"), await disk.field("physicalExponent"), await disk.field("minIo")],
          [4096, 0, 1],
        );
        assert.equal(await disk.capacityBytes(), 8 * MIB);
        assert.deepEqual(
          await disk.read(8, 8),
          Uint8Array.from(
            Array.from(
              { length: 8 },
              (_, i) => [...patternSector(8 + i)],
            ).flat(),
          ),
        );
        await disk.write(16, new Uint8Array(4096).fill(direct === "on" ? 1 : 2));
        await disk.flush();
        assert.deepEqual(await disk.read(16, 8), new Uint8Array(4096).fill(direct === "on" ? 1 : 2));
      });
    }
  },
  NEEDS_LOOP,
);

guestTest("test_virtio_block_discard_loop_device: blocks of the file below are given back", async () => {
  await using file = await TempDisk.pattern(8 * MIB);
  const full = await file.allocatedBytes();
  await using device = await loopDevice(file.path, 512);
  await withDisk(`path=${device.path},image_type=raw`, async (disk) => {
    assert.ok(disk.has(F.discard));
    assert.equal(await disk.range(T.discard, 0, 4 * MIB / SECTOR), S.ok);
    await disk.flush();
    assert.ok(await file.allocatedBytes() <= full - 4 * MIB + 64 * KIB);
  });
}, NEEDS_LOOP);

guestTest("test_disk_resize: the guest sees a disk grow and shrink", async () => {
  await using file = await TempDisk.pattern(4 * MIB);
  await withDisk(`id=d,path=${file.path},image_type=raw`, async (disk, vm) => {
    for (const size of [6 * MIB, 2 * MIB]) {
      await vm.api.mustPut("vm.resize-disk", { id: "d", desired_size: size });
      assert.equal(await disk.capacityBytes(), size);
      assert.equal((await Deno.stat(file.path)).size, size);
      assert.deepEqual(await disk.read(1), Uint8Array.from(patternSector(1)));
      await disk.write(size / SECTOR - 1, new Uint8Array(SECTOR).fill(9));
      const beyond = await disk.request(T.in, size / SECTOR, { receive: SECTOR });
      assert.equal(beyond.status, S.ioError);
    }
  });
});

guestTest("a disk that another VM writes to is locked; two readers may share one", async () => {
  await using file = await TempDisk.pattern(MIB);
  const option = (more: string) => ["--disk", `path=${file.path},image_type=raw${more}`];
  await using puppet = await Puppet.make();
  await using writer = await startVm({ args: [...puppet.args(), ...option("")] });
  await puppet.started();
  await using second = await Puppet.make();
  await using refused = await startVm({ api: false, args: [...second.args(), ...option(",readonly=on")] });
  assert.deepEqual(await refused.waitForExit(), { code: 1, signal: null });
  assert.match(refused.stderr.text, /lock/i);
  await writer.stop();
  await using reader = await startVm({ args: [...puppet.args(), ...option(",readonly=on")] });
  await puppet.started(2);
  await using other = await startVm({ args: [...second.args(), ...option(",readonly=on")] });
  await second.started();
  for (const vm of [reader, other]) {
    await eventually("a running VM", async () => await vm.api.state() === "Running");
  }
});

guestTest("test_counters: a disk counts what the guest reads and writes", async () => {
  await using file = await TempDisk.pattern(MIB);
  await withDisk(`id=d,path=${file.path},image_type=raw`, async (disk, vm) => {
    const counters = async () =>
      (await vm.api.get("vm.counters")).json<Record<string, Record<string, number>>>().d;
    const before = await counters();
    for (let i = 0; i < 4; i++) await disk.read(i, 2);
    for (let i = 0; i < 3; i++) await disk.write(i, new Uint8Array(SECTOR));
    const after = await counters();
    const grown = (name: string) => after[name] - before[name];
    assert.deepEqual(
      ["read_ops", "read_bytes", "write_ops", "write_bytes"].map(grown),
      [4, 8 * SECTOR, 3, 3 * SECTOR],
    );
    assert.ok(after.read_latency_min > 0 && after.read_latency_max >= after.read_latency_min);
  });
});

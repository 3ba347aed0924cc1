/**
 * Disk image formats under a guest: contents, what happens to the file at each end, what is refused. By a puppet, on both
 * programs.
 *
 * The names in front are those of the original's own tests (docs/upstream-tests.md).
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { BlockDriver, F, S, SECTOR, T } from "@tests/framework/block_driver.ts";
import { run } from "@tests/framework/command.ts";
import { patternSector, TempDisk } from "@tests/framework/images.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { DriverMemory } from "@tests/framework/virtio_driver.ts";
import type { Vm } from "@tests/framework/vm.ts";
import { guestTest, startVm } from "./subject.ts";

const MIB = 1 << 20;
const NEEDS = { commands: ["qemu-img"] };
const SIZE = 8 * MIB;
/** Byte of a qcow2 header with the incompatible features, and bits of it. */
const FEATURES_AT = 79;
const DIRTY = 1;
const CORRUPT = 2;

type Body = (disk: BlockDriver, vm: Vm) => Promise<void>;

/** A guest with one disk; SIGTERM at the end unless `body` ended it. */
async function withDisk(option: string, body: Body): Promise<void> {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: [...puppet.args(), "--cpus", "boot=4", "--disk", option] });
  await puppet.started();
  await body(await BlockDriver.start(new DriverMemory(puppet)), vm);
  if (vm.exit === undefined) assert.deepEqual(await vm.stop(), { code: 0, signal: null });
}

const qemuImg = (...args: string[]): Promise<string> => run("qemu-img", ...args);
const sector = (number: number) => Uint8Array.from(patternSector(number));

/** Converts a pattern disk; returns the image beside it. */
async function image(source: TempDisk, format: string, ...options: string[]): Promise<string> {
  const path = join(source.directory, `image.${format}`);
  await qemuImg("convert", "-f", "raw", "-O", format, ...options, source.path, path);
  return path;
}

async function digest(path: string): Promise<string> {
  return createHash("sha256").update(await Deno.readFile(path)).digest("hex");
}

/** Writes here and there, through every queue; reads it and what was there before. */
async function exercise(disk: BlockDriver): Promise<void> {
  assert.equal(await disk.capacityBytes(), SIZE);
  for (const at of [0, 1, 127, 128, 8191, SIZE / SECTOR - 1]) {
    assert.deepEqual(await disk.read(at), sector(at));
  }
  for (const [round, at] of [3, 130, 4095, 12_000].entries()) {
    const data = new Uint8Array(3 * SECTOR).fill(round + 1);
    await disk.write(at, data);
    assert.deepEqual(await disk.read(at, 3), data);
    assert.deepEqual(await disk.read(at - 1), sector(at - 1));
    assert.deepEqual(await disk.read(at + 3), sector(at + 3));
  }
  await disk.flush();
}

/** What `exercise` leaves behind, looked at by qemu-img. */
async function checkContents(path: string, format: string): Promise<void> {
  const raw = `${path}.raw`;
  await qemuImg("convert", "-f", format, "-O", "raw", path, raw);
  const bytes = await Deno.readFile(raw);
  assert.equal(bytes.byteLength, SIZE);
  for (const [round, at] of [3, 130, 4095, 12_000].entries()) {
    const found = bytes.subarray(at * SECTOR, (at + 3) * SECTOR);
    assert.deepEqual(Uint8Array.from(found), new Uint8Array(3 * SECTOR).fill(round + 1));
  }
  assert.deepEqual(bytes.slice(20 * SECTOR, 21 * SECTOR), sector(20));
}

const QCOW2: Record<string, string[]> = {
  qcow2: [],
  qcow2_zlib: ["-c"],
  qcow2_zstd: ["-c", "-o", "compression_type=zstd"],
};

for (const [name, options] of Object.entries(QCOW2)) {
  guestTest(`test_virtio_block_${name}: data, and a clean image after SIGTERM`, async () => {
    await using source = await TempDisk.pattern(SIZE);
    const path = await image(source, "qcow2", ...options);
    await withDisk(`path=${path},image_type=qcow2`, exercise);
    await qemuImg("check", "-f", "qcow2", path);
    await checkContents(path, "qcow2");
  }, NEEDS);
}

const BACKING: Record<string, { format: string; options: string[] }> = {
  raw_file: { format: "raw", options: [] },
  uncompressed_file: { format: "qcow2", options: [] },
  zstd_file: { format: "qcow2", options: ["-c", "-o", "compression_type=zstd"] },
};

for (const [name, { format, options }] of Object.entries(BACKING)) {
  guestTest(`test_virtio_block_qcow2_backing_${name}: the file below does not change`, async () => {
    await using source = await TempDisk.pattern(SIZE);
    const below = format === "raw" ? source.path : await image(source, format, ...options);
    const before = await digest(below);
    const path = join(source.directory, "overlay.qcow2");
    await qemuImg("create", "-q", "-f", "qcow2", "-b", below, "-F", format, path);
    await withDisk(`path=${path},image_type=qcow2,backing_files=on`, exercise);
    assert.equal(await digest(below), before);
    await qemuImg("check", "-f", "qcow2", path);
    await checkContents(path, "qcow2");
  }, NEEDS);
}

guestTest(
  "test_virtio_block_qcow2_multiqueue_writes, _mixed_rw, _wide_writes: four queues at once on one image",
  async () => {
    await using source = await TempDisk.pattern(SIZE);
    const path = await image(source, "qcow2");
    const sectors = 24;
    await withDisk(`path=${path},image_type=qcow2,num_queues=4`, async (disk) => {
      assert.equal(await disk.field("numQueues"), 4);
      for (let round = 0; round < 4; round++) {
        for (const queue of [0, 1, 2, 3]) {
          for (let i = 0; i < 4; i++) {
            const at = 64 * (16 * round + 4 * queue + i);
            const data = { send: new Uint8Array(sectors * SECTOR).fill(1 + 4 * queue + i) };
            await disk.submit(queue, T.out, at, data);
            await disk.submit(queue, T.in, 4096 + at, { receive: SECTOR });
          }
        }
        await Promise.resolve();
        for (const queue of [0, 1, 2, 3]) await disk.finish(queue, 8);
      }
      await disk.flush();
      for (const queue of [0, 1, 2, 3]) {
        const at = 64 * (16 * 3 + 4 * queue + 2);
        const expected = new Uint8Array(sectors * SECTOR).fill(1 + 4 * queue + 2);
        assert.deepEqual(await disk.read(at, sectors, 3 - queue), expected);
        assert.deepEqual(await disk.read(at + sectors, 1, queue), sector(at + sectors));
      }
    });
    await qemuImg("check", "-f", "qcow2", path);
  },
  NEEDS,
);

guestTest(
  "test_virtio_block_qcow2_multiqueue_discard_stress, _discard_qcow2: clusters are given back",
  async () => {
    await using source = await TempDisk.pattern(SIZE);
    const path = await image(source, "qcow2");
    const blocks = async () => (await Deno.stat(path)).blocks! * SECTOR;
    const full = await blocks();
    await withDisk(`path=${path},image_type=qcow2,num_queues=4`, async (disk) => {
      assert.ok(disk.has(F.discard) && disk.has(F.writeZeroes));
      assert.equal(await disk.range(T.discard, 0, 4 * MIB / SECTOR), S.ok);
      await disk.flush();
      assert.ok(await blocks() <= full - 3 * MIB, `${full} → ${await blocks()}`);
      assert.deepEqual(await disk.read(100), new Uint8Array(SECTOR));
      assert.deepEqual(await disk.read(4 * MIB / SECTOR), sector(4 * MIB / SECTOR));
      for (let round = 0; round < 8; round++) {
        for (const queue of [0, 1, 2, 3]) {
          await disk.write(128 * (4 * round + queue), new Uint8Array(SECTOR).fill(5), queue);
        }
        assert.equal(await disk.range(T.discard, 512 * round, 128), S.ok);
      }
    });
    await qemuImg("check", "-f", "qcow2", path);
  },
  NEEDS,
);

guestTest("test_virtio_block_sparse_off_qcow2: no discard", async () => {
  await using source = await TempDisk.pattern(SIZE);
  const path = await image(source, "qcow2");
  await withDisk(`path=${path},image_type=qcow2,sparse=off`, async (disk) => {
    assert.equal(disk.has(F.discard), false);
    await exercise(disk);
  });
  await qemuImg("check", "-f", "qcow2", path);
}, NEEDS);

async function featuresOf(path: string): Promise<number> {
  return (await Deno.readFile(path))[FEATURES_AT];
}

for (const [end, signal, dirty] of [["clean", "SIGTERM", 0], ["unclean", "SIGKILL", DIRTY]] as const) {
  guestTest(`test_virtio_block_qcow2_dirty_bit_${end}_shutdown`, async () => {
    await using source = await TempDisk.empty(SIZE);
    const path = await image(source, "qcow2");
    await withDisk(`path=${path},image_type=qcow2`, async (disk, vm) => {
      await disk.write(5, new Uint8Array(SECTOR).fill(1));
      await disk.flush();
      assert.equal(await featuresOf(path) & DIRTY, DIRTY, "clusters were allocated");
      vm.kill(signal);
      await vm.exited;
    });
    assert.equal(await featuresOf(path) & DIRTY, dirty);
    // The next one repairs what there is to repair, and leaves it clean.
    await withDisk(`path=${path},image_type=qcow2`, async (disk) => {
      assert.deepEqual(await disk.read(5), new Uint8Array(SECTOR).fill(1));
    });
    assert.equal(await featuresOf(path) & DIRTY, 0);
    await qemuImg("check", "-f", "qcow2", path);
  }, NEEDS);
}

guestTest("test_virtio_block_qcow2_corrupt_bit_rejected_for_write, _allowed_readonly", async () => {
  await using source = await TempDisk.pattern(SIZE);
  const path = await image(source, "qcow2");
  const bytes = await Deno.readFile(path);
  bytes[FEATURES_AT] |= CORRUPT;
  await Deno.writeFile(path, bytes);
  await using puppet = await Puppet.make();
  await using vm = await startVm({
    api: false,
    args: [...puppet.args(), "--disk", `path=${path},image_type=qcow2`],
  });
  assert.deepEqual(await vm.waitForExit(), { code: 1, signal: null });
  assert.match(vm.stderr.text, /corrupt/i);
  await withDisk(`path=${path},image_type=qcow2,readonly=on`, async (disk) => {
    assert.deepEqual(await disk.read(77), sector(77));
  });
}, NEEDS);

const FIXED: Record<string, { format: string; type: string; options: string[] }> = {
  vhd: { format: "vpc", type: "vhd", options: ["-o", "subformat=fixed,force_size=on"] },
  vhdx: { format: "vhdx", type: "vhdx", options: [] },
};

for (const [name, { format, type, options }] of Object.entries(FIXED)) {
  guestTest(`test_virtio_block_${name}, _discard_unsupported_${name}: data, and no discard`, async () => {
    await using source = await TempDisk.pattern(SIZE);
    const path = await image(source, format, ...options);
    await withDisk(`path=${path},image_type=${type}`, async (disk) => {
      assert.deepEqual([disk.has(F.discard), disk.has(F.writeZeroes)], [false, false]);
      await exercise(disk);
    });
    await checkContents(path, format);
  }, NEEDS);
}

guestTest("test_virtio_block_dynamic_vhdx_expand: the file grows with what is written", async () => {
  await using source = await TempDisk.empty(MIB);
  const path = join(source.directory, "dynamic.vhdx");
  await qemuImg("create", "-q", "-f", "vhdx", "-o", "subformat=dynamic,block_size=1M", path, "100M");
  const before = (await Deno.stat(path)).size;
  await withDisk(`path=${path},image_type=vhdx`, async (disk) => {
    assert.equal(await disk.capacityBytes(), 100 * MIB);
    assert.deepEqual(await disk.read(50 * MIB / SECTOR), new Uint8Array(SECTOR));
    for (let at = 0; at < 100; at += 10) {
      await disk.write(at * MIB / SECTOR, new Uint8Array(4096).fill(at + 1));
    }
    await disk.flush();
    for (let at = 0; at < 100; at += 10) {
      assert.deepEqual(await disk.read(at * MIB / SECTOR), new Uint8Array(SECTOR).fill(at + 1));
    }
  });
  const grown = (await Deno.stat(path)).size - before;
  assert.ok(grown >= 10 * MIB && grown <= 24 * MIB, `by ${grown} bytes`);
  await qemuImg("check", "-f", "vhdx", path);
}, NEEDS);

const VMDK: Record<string, string> = {
  monolithic_flat: "monolithicFlat",
  two_gb_max_extent_flat: "twoGbMaxExtentFlat",
};

for (const [name, subformat] of Object.entries(VMDK)) {
  guestTest(`test_virtio_block_vmdk_${name}, _enospc: data up to the end and not beyond`, async () => {
    await using source = await TempDisk.pattern(SIZE);
    const path = await image(source, "vmdk", "-o", `subformat=${subformat}`);
    await withDisk(`path=${path},image_type=vmdk`, async (disk) => {
      await exercise(disk);
      const beyond = { send: new Uint8Array(2 * SECTOR) };
      assert.equal((await disk.request(T.out, SIZE / SECTOR - 1, beyond)).status, S.ioError);
      assert.equal((await disk.request(T.in, SIZE / SECTOR, { receive: SECTOR })).status, S.ioError);
    });
    await checkContents(path, "vmdk");
  }, NEEDS);
}

guestTest("test_disk_resize_qcow2: the guest sees an image grow", async () => {
  await using source = await TempDisk.pattern(SIZE);
  const path = await image(source, "qcow2");
  await withDisk(`id=d,path=${path},image_type=qcow2`, async (disk, vm) => {
    await vm.api.mustPut("vm.resize-disk", { id: "d", desired_size: 2 * SIZE });
    assert.equal(await disk.capacityBytes(), 2 * SIZE);
    assert.deepEqual(await disk.read(2 * SIZE / SECTOR - 1), new Uint8Array(SECTOR));
    await disk.write(2 * SIZE / SECTOR - 1, new Uint8Array(SECTOR).fill(3));
    assert.deepEqual(await disk.read(9), sector(9));
  });
  await qemuImg("check", "-f", "qcow2", path);
  assert.equal(JSON.parse(await qemuImg("info", "--output=json", path))["virtual-size"], 2 * SIZE);
}, NEEDS);

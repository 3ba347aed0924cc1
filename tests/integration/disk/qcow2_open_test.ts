/**
 * What opening, resizing and damaged metadata of qcow2 images do.
 */
import assert from "node:assert/strict";
import { attachDisk } from "@vmm/backends/disk/attach.ts";
import type { DiskError } from "@vmm/backends/disk/disk_error.ts";
import { openDisk } from "@vmm/backends/disk/open.ts";
import {
  checkImage,
  diskRequest,
  hasQemuImg,
  pattern,
  qemuImg,
  random,
  readDisk,
  waitFor,
  withDirectory,
  writeDisk,
} from "@vmm/backends/disk/testing/images.ts";

const MIB = 1 << 20;
const INCOMPATIBLE = 76;

const featuresOf = (path: string) => new DataView(Deno.readFileSync(path).buffer).getUint32(INCOMPATIBLE);

function chainOf(run: () => unknown): string[] {
  try {
    run();
  } catch (error) {
    return (error as DiskError).chain();
  }
  throw new Error("nothing was thrown");
}

/** Changes bytes of a file. */
function poke(path: string, offset: number, bytes: Uint8Array): void {
  const all = Deno.readFileSync(path);
  all.set(bytes, offset);
  Deno.writeFileSync(path, all);
}

const test = (name: string, body: (directory: string) => void) =>
  Deno.test({ name, ignore: !hasQemuImg }, () => withDirectory(body));

test("qcow2 is marked dirty while it is written and clean afterwards", (directory) => {
  const path = `${directory}/disk.qcow2`;
  qemuImg("create", "-q", "-f", "qcow2", path, "8M");
  const opened = openDisk(diskRequest(path));
  assert.equal(opened.imageType, "Qcow2");
  assert.equal(opened.protectSectorZero, false);
  const disk = attachDisk(opened.description);
  assert.equal(featuresOf(path), 0);
  writeDisk(disk, 0, pattern(4096, 1));
  assert.equal(featuresOf(path), 1);
  disk.drain(() => {});
  assert.equal(featuresOf(path), 0);
  writeDisk(disk, 0, pattern(4096, 2));
  assert.equal(featuresOf(path), 0, "a cluster that is there needs no metadata");
  writeDisk(disk, MIB, pattern(4096, 3));
  assert.equal(featuresOf(path), 1);
  disk.close();
  assert.equal(featuresOf(path), 0);
  opened.close();
});

test("qcow2 marked corrupt opens for reading only", (directory) => {
  const path = `${directory}/disk.qcow2`;
  qemuImg("create", "-q", "-f", "qcow2", path, "8M");
  poke(path, INCOMPATIBLE, Uint8Array.of(0, 0, 0, 2));
  assert.deepEqual(chainOf(() => openDisk(diskRequest(path))), [
    "Cannot open disk path",
    `Corrupt image (path=${path} op=open)`,
    "Image is marked corrupt and cannot be opened for writing",
  ]);
  const opened = openDisk(diskRequest(path, { readonly: true }));
  const disk = attachDisk(opened.description);
  assert.deepEqual(readDisk(disk, 0, 512), new Uint8Array(512));
  assert.throws(() => writeDisk(disk, 0, pattern(512, 1)), /-30/);
  disk.close();
  opened.close();
});

test("qcow2 follows backing files only when allowed", (directory) => {
  const path = `${directory}/disk.qcow2`;
  Deno.writeFileSync(`${directory}/below.raw`, pattern(MIB, 4));
  qemuImg("create", "-q", "-f", "qcow2", "-b", "below.raw", "-F", "raw", path);
  const refused = [
    "Cannot open disk path",
    `Unsupported feature (path=${path} op=open)`,
    "Maximum disk nesting depth exceeded",
  ];
  assert.deepEqual(chainOf(() => openDisk(diskRequest(path, { image_type: "Qcow2" }))), refused);
  assert.deepEqual(
    chainOf(() => openDisk(diskRequest(path, { backing_files: true }))),
    refused,
    "detected type",
  );
  Deno.removeSync(`${directory}/below.raw`);
  const chain = chainOf(() => openDisk(diskRequest(path, { image_type: "Qcow2", backing_files: true })));
  assert.deepEqual(chain.slice(2), [
    `Backing file I/O error: ${directory}/below.raw`,
    "No such file or directory (os error 2)",
  ]);
});

test("qcow2 chains end somewhere", (directory) => {
  const path = `${directory}/loop.qcow2`;
  qemuImg("create", "-q", "-f", "qcow2", path, "8M");
  qemuImg("rebase", "-u", "-b", "loop.qcow2", "-F", "qcow2", path);
  const chain = chainOf(() => openDisk(diskRequest(path, { image_type: "Qcow2", backing_files: true })));
  assert.equal(chain[2], "Maximum disk nesting depth exceeded");
});

test("qcow2 grows and then maps the new part", (directory) => {
  const path = `${directory}/disk.qcow2`;
  qemuImg("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", path, "4M");
  const opened = openDisk(diskRequest(path, { image_type: "Qcow2" }));
  const disk = attachDisk(opened.description);
  writeDisk(disk, 0, pattern(MIB, 1));
  assert.equal(disk.resize(64 * MIB), 0);
  assert.equal(disk.sizeBytes, 64 * MIB);
  writeDisk(disk, 63 * MIB, pattern(MIB, 2));
  assert.equal(disk.resize(1 << 30), 0, "needs a larger first-level table");
  writeDisk(disk, (1 << 30) - MIB, pattern(MIB, 3));
  assert.equal(disk.resize(MIB), -22);
  disk.close();
  opened.close();
  checkImage(path);
  const again = openDisk(diskRequest(path, { image_type: "Qcow2" }));
  const reopened = attachDisk(again.description);
  assert.equal(reopened.sizeBytes, 1 << 30);
  assert.deepEqual(readDisk(reopened, 0, MIB), pattern(MIB, 1));
  assert.deepEqual(readDisk(reopened, 63 * MIB, MIB), pattern(MIB, 2));
  assert.deepEqual(readDisk(reopened, (1 << 30) - MIB, MIB), pattern(MIB, 3));
  reopened.close();
  assert.throws(() => again.resize(512));
  again.close();
});

test("qcow2 with a backing file is not resized", (directory) => {
  const path = `${directory}/disk.qcow2`;
  Deno.writeFileSync(`${directory}/below.raw`, new Uint8Array(MIB));
  qemuImg("create", "-q", "-f", "qcow2", "-b", "below.raw", "-F", "raw", path);
  const opened = openDisk(diskRequest(path, { image_type: "Qcow2", backing_files: true }));
  const disk = attachDisk(opened.description);
  assert.equal(disk.resize(2 * MIB), -95);
  disk.close();
  opened.close();
});

test("qcow2 counts outgrow their table", (directory) => {
  const path = `${directory}/disk.qcow2`;
  qemuImg("create", "-q", "-f", "qcow2", "-o", "cluster_size=512", path, "20M");
  const opened = openDisk(diskRequest(path, { image_type: "Qcow2" }));
  const disk = attachDisk(opened.description);
  const data = pattern(20 * MIB, 6);
  for (let at = 0; at < data.length; at += MIB) writeDisk(disk, at, data.slice(at, at + MIB));
  assert.equal(waitFor(disk, disk.flush(0)), 0);
  disk.close();
  opened.close();
  checkImage(path);
  const raw = `${directory}/model.raw`;
  Deno.writeFileSync(raw, data);
  qemuImg("compare", "-f", "raw", "-F", "qcow2", raw, path);
});

test("qcow2 discards give space back to the host", (directory) => {
  const path = `${directory}/disk.qcow2`;
  qemuImg("create", "-q", "-f", "qcow2", path, "32M");
  const opened = openDisk(diskRequest(path, { image_type: "Qcow2" }));
  const disk = attachDisk(opened.description);
  writeDisk(disk, 0, pattern(16 * MIB, 1));
  waitFor(disk, disk.flush(0));
  const before = Deno.statSync(path).blocks!;
  assert.equal(disk.discard(0, 0, 12 * MIB), 0);
  assert.ok(Deno.statSync(path).blocks! < before - 20_000);
  assert.deepEqual(readDisk(disk, 0, 512), new Uint8Array(512));
  writeDisk(disk, 20 * MIB, pattern(4 * MIB, 2));
  assert.ok(Deno.statSync(path).size <= 20 * MIB, "freed clusters are used again");
  disk.close();
  opened.close();
  checkImage(path);
});

test("qcow2 discards over a backing file do not uncover it", (directory) => {
  for (const compat of ["1.1", "0.10"]) {
    const path = `${directory}/disk-${compat}.qcow2`;
    Deno.writeFileSync(`${directory}/below.raw`, pattern(2 * MIB, 4));
    qemuImg("create", "-q", "-f", "qcow2", "-o", `compat=${compat}`, "-b", "below.raw", "-F", "raw", path);
    const opened = openDisk(diskRequest(path, { image_type: "Qcow2", backing_files: true }));
    const disk = attachDisk(opened.description);
    writeDisk(disk, 0, pattern(65536, 9));
    assert.equal(disk.writeZeroes(0, 0, 131072, true), 0);
    assert.deepEqual(readDisk(disk, 0, 131072), new Uint8Array(131072));
    assert.deepEqual(readDisk(disk, 131072, 512), pattern(2 * MIB, 4).slice(131072, 131584));
    disk.close();
    opened.close();
    checkImage(path);
  }
});

test("qcow2 with made-up metadata gives errors, never a crash", (directory) => {
  const start = `${directory}/start.qcow2`;
  const path = `${directory}/disk.qcow2`;
  qemuImg("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", start, "4M");
  const opened = openDisk(diskRequest(start, { image_type: "Qcow2" }));
  const disk = attachDisk(opened.description);
  for (let at = 0; at < 4 * MIB; at += 3 * 65536) writeDisk(disk, at, pattern(65536, at));
  disk.close();
  opened.close();
  const good = Deno.readFileSync(start);
  const next = random(31);
  const metadata = 16 * 4096;
  for (let round = 0; round < 150; round++) {
    const bytes = good.slice();
    for (let i = 0; i <= next(3); i++) {
      const at = next(2) === 0 ? next(112) : next(metadata);
      bytes[at] = next(256);
    }
    Deno.writeFileSync(path, bytes);
    let damaged;
    try {
      damaged = openDisk(diskRequest(path));
    } catch (error) {
      assert.ok((error as DiskError).chain().length > 1, String(error));
      continue;
    }
    try {
      const image = attachDisk(damaged.description);
      for (let i = 0; i < 20 && image.sizeBytes > 65536; i++) {
        const offset = next(Math.min(image.sizeBytes, 4 * MIB) / 512 - 64) * 512;
        try {
          readDisk(image, offset, 32768);
          writeDisk(image, offset, pattern(16384, i));
        } catch (error) {
          assert.match(String(error), /: -\d+$/, "only results, no exceptions from inside");
        }
      }
      image.close();
    } catch (error) {
      assert.match((error as Error).name, /ImageDamage|HostFailure|ImageFault|OsError/);
    } finally {
      damaged.close();
    }
  }
});

/**
 * Writes qcow2 images at random and has qemu-img judge them.
 */
import assert from "node:assert/strict";
import { attachDisk } from "@vmm/backends/disk/attach.ts";
import { openDisk, type OpenedDisk } from "@vmm/backends/disk/open.ts";
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
import type { Disk } from "@vmm/virtio/ports/disk.ts";

const MIB = 1 << 20;
const SECTOR = 512;

interface Image {
  readonly name: string;
  readonly sizeBytes: number;
  readonly options: string;
  /** Largest request in sectors. */
  readonly maxSectors?: number;
  readonly steps?: number;
  readonly direct?: boolean;
  /** Contents below, if any: `raw` or `qcow2` of that many bytes. */
  readonly below?: { readonly format: string; readonly sizeBytes: number };
  /** Start from compressed clusters of that kind. */
  readonly compressed?: "zlib" | "zstd";
  readonly snapshot?: boolean;
}

const IMAGES: readonly Image[] = [
  { name: "version 3", sizeBytes: 64 * MIB, options: "compat=1.1" },
  { name: "version 2", sizeBytes: 64 * MIB, options: "compat=0.10" },
  { name: "an odd size", sizeBytes: 10 * MIB + 3 * SECTOR, options: "compat=1.1" },
  { name: "512-byte clusters", sizeBytes: 2 * MIB, options: "compat=1.1,cluster_size=512", steps: 250 },
  { name: "4 KiB clusters, 1-bit counts", sizeBytes: 16 * MIB, options: "cluster_size=4k,refcount_bits=1" },
  { name: "8-bit counts", sizeBytes: 16 * MIB, options: "cluster_size=4k,refcount_bits=8" },
  { name: "64-bit counts", sizeBytes: 16 * MIB, options: "cluster_size=8k,refcount_bits=64" },
  { name: "2 MiB clusters", sizeBytes: 64 * MIB, options: "cluster_size=2M", steps: 60 },
  { name: "preallocated metadata", sizeBytes: 16 * MIB, options: "preallocation=metadata" },
  { name: "direct I/O", sizeBytes: 16 * MIB, options: "compat=1.1", direct: true, steps: 80 },
  {
    name: "a raw file below",
    sizeBytes: 16 * MIB,
    options: "compat=1.1",
    below: { format: "raw", sizeBytes: 9 * MIB + SECTOR },
  },
  {
    name: "a qcow2 below, version 2",
    sizeBytes: 16 * MIB,
    options: "compat=0.10",
    below: { format: "qcow2", sizeBytes: 16 * MIB },
  },
  { name: "zlib clusters", sizeBytes: 8 * MIB, options: "compat=1.1", compressed: "zlib" },
  { name: "zstd clusters", sizeBytes: 8 * MIB, options: "compat=1.1", compressed: "zstd" },
  { name: "an internal snapshot", sizeBytes: 8 * MIB, options: "compat=1.1", snapshot: true },
];

/** Makes the image; returns what it contains. */
function create(directory: string, image: Image): { path: string; model: Uint8Array<ArrayBuffer> } {
  const path = `${directory}/disk.qcow2`;
  const model = new Uint8Array(image.sizeBytes);
  if (image.compressed !== undefined) {
    for (let at = 0; at < model.length; at += 65536 * 3) {
      const text = new TextEncoder().encode(`${image.name} ${at} `.repeat(4000)).subarray(0, 65536 + 100);
      model.set(text.subarray(0, Math.min(text.length, model.length - at)), at);
    }
    model.set(pattern(100_000, 3), 777_216);
    const raw = `${directory}/start.raw`;
    Deno.writeFileSync(raw, model);
    const options = `${image.options},compression_type=${image.compressed}`;
    qemuImg("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, raw, path);
  } else if (image.below !== undefined) {
    const { format, sizeBytes } = image.below;
    const contents = pattern(sizeBytes, 99);
    contents.fill(0, 3 * MIB, 4 * MIB);
    model.set(contents);
    const raw = `${directory}/below.raw`;
    const name = `${directory}/below.${format}`;
    Deno.writeFileSync(raw, contents);
    if (format !== "raw") qemuImg("convert", "-f", "raw", "-O", format, raw, name);
    const create = [
      "create",
      "-q",
      "-f",
      "qcow2",
      "-o",
      image.options,
      "-b",
      `below.${format}`,
      "-F",
      format,
    ];
    qemuImg(...create, path, `${image.sizeBytes}`);
  } else {
    qemuImg("create", "-q", "-f", "qcow2", "-o", image.options, path, `${image.sizeBytes}`);
  }
  if (image.snapshot) {
    const opened = open(path, image);
    const disk = attachDisk(opened.description);
    const data = pattern(3 * MIB, 5);
    writeDisk(disk, MIB, data);
    model.set(data, MIB);
    disk.close();
    opened.close();
    qemuImg("snapshot", "-c", "first", path);
  }
  return { path, model };
}

const open = (path: string, image: Image): OpenedDisk =>
  openDisk(diskRequest(path, { image_type: "Qcow2", backing_files: true, direct: image.direct ?? false }));

/** One random operation, on the disk and on the model. */
function step(
  disk: Disk,
  model: Uint8Array,
  next: (below: number) => number,
  maxSectors: number,
  seed: number,
) {
  const sectors = 1 + next(next(4) === 0 ? maxSectors : 16);
  const last = Math.floor(model.length / SECTOR);
  const first = next(Math.max(1, last - sectors + 1));
  const [offset, length] = [first * SECTOR, Math.min(sectors, last - first) * SECTOR];
  switch (next(10)) {
    case 0:
      assert.equal(waitFor(disk, disk.writeZeroes(0, offset, length, next(2) === 0)), 0);
      model.fill(0, offset, offset + length);
      break;
    case 1: {
      // What a discarded range contains is the image's choice: take its word.
      assert.equal(waitFor(disk, disk.discard(0, offset, length)), 0);
      const now = readDisk(disk, offset, length);
      for (let i = 0; i < length; i++) assert.ok(now[i] === 0 || now[i] === model[offset + i]);
      model.set(now, offset);
      break;
    }
    case 2:
      assert.equal(waitFor(disk, disk.flush(0)), 0);
      break;
    case 3:
    case 4:
      assert.deepEqual(readDisk(disk, offset, length), model.slice(offset, offset + length));
      break;
    default: {
      const data = pattern(length, seed);
      const cut = next(length);
      writeDisk(disk, offset, data.slice(0, cut), data.slice(cut));
      model.set(data, offset);
    }
  }
}

function compare(directory: string, path: string, model: Uint8Array): void {
  const raw = `${directory}/model.raw`;
  Deno.writeFileSync(raw, model);
  qemuImg("compare", "-f", "raw", "-F", "qcow2", raw, path);
}

for (const image of IMAGES) {
  Deno.test({ name: `qcow2 with ${image.name} keeps what is written`, ignore: !hasQemuImg }, async () => {
    await withDirectory((directory) => {
      const { path, model } = create(directory, image);
      const belowBefore = image.below && Deno.readFileSync(`${directory}/below.${image.below.format}`);
      const next = random(image.sizeBytes + image.name.length);
      const steps = image.steps ?? 150;
      for (const round of [1, 2]) {
        const opened = open(path, image);
        const disk = attachDisk(opened.description);
        assert.equal(disk.sizeBytes, image.sizeBytes);
        for (let i = 0; i < steps; i++) step(disk, model, next, image.maxSectors ?? 700, round * 1000 + i);
        const readable = Math.floor(model.length / SECTOR) * SECTOR;
        assert.deepEqual(readDisk(disk, 0, readable), model.slice(0, readable));
        disk.close();
        opened.close();
        checkImage(path);
        compare(directory, path, model);
      }
      if (image.below) {
        assert.deepEqual(Deno.readFileSync(`${directory}/below.${image.below.format}`), belowBefore);
      }
      if (image.snapshot) {
        qemuImg("snapshot", "-a", "first", path);
        const expected = new Uint8Array(image.sizeBytes);
        expected.set(pattern(3 * MIB, 5), MIB);
        compare(directory, path, expected);
        checkImage(path);
      }
    });
  });
}

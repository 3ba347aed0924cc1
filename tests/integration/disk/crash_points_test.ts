/**
 * Stops a workload at each write in turn, as a crash would, and has qemu-img judge what is left.
 */
import assert from "node:assert/strict";
import { attachDisk } from "@vmm/backends/disk/attach.ts";
import { ImageFile } from "@vmm/backends/disk/image_file.ts";
import { openDisk } from "@vmm/backends/disk/open.ts";
import {
  checkImage,
  diskRequest,
  hasQemuImg,
  pattern,
  qemuImg,
  random,
  waitFor,
  withDirectory,
  writeDisk,
} from "@vmm/backends/disk/testing/images.ts";

const MIB = 1 << 20;
const SECTOR = 512;
const EIO = 5;
/** Operations of the workload. */
const STEPS = 80;

const MUTATORS = ["write", "writeBytes", "setSize", "punch", "zero"] as const;

/** Lets `count` changes of files through while `run` runs, and none after; the number there would have been. */
function limitingChanges(count: number, run: () => void): number {
  const originals = MUTATORS.map((name) => ImageFile.prototype[name]);
  let changes = 0;
  MUTATORS.forEach((name, i) => {
    // deno-lint-ignore no-explicit-any
    (ImageFile.prototype as any)[name] = function (this: ImageFile, ...args: unknown[]) {
      // deno-lint-ignore no-explicit-any
      return ++changes > count ? -EIO : (originals[i] as any).apply(this, args);
    };
  });
  try {
    run();
  } finally {
    MUTATORS.forEach((name, i) => ImageFile.prototype[name] = originals[i] as never);
  }
  return changes;
}

/** Small writes all over, discards, zeroes, flushes. Failures are what a crash looks like from inside. */
function work(path: string): void {
  const opened = openDisk(diskRequest(path, { image_type: "Qcow2", backing_files: true }));
  try {
    const disk = attachDisk(opened.description);
    const next = random(5);
    const sectors = disk.sizeBytes / SECTOR;
    for (let i = 0; i < STEPS; i++) {
      const count = 1 + next(next(4) === 0 ? 300 : 20);
      const offset = next(sectors - count) * SECTOR;
      const choice = next(8);
      try {
        if (choice === 0) waitFor(disk, disk.flush(0));
        else if (choice === 1) waitFor(disk, disk.discard(0, offset, count * SECTOR));
        else if (choice === 2) waitFor(disk, disk.writeZeroes(0, offset, count * SECTOR, next(2) === 0));
        else writeDisk(disk, offset, pattern(count * SECTOR, i));
      } catch {
        // the write did not go through
      }
    }
    disk.close();
  } catch {
    // the image could not even be attached
  } finally {
    opened.close();
  }
}

interface Start {
  readonly name: string;
  readonly make: (path: string) => void;
}

const STARTS: readonly Start[] = [
  { name: "empty", make: (path) => qemuImg("create", "-q", "-f", "qcow2", path, "16M") },
  {
    name: "version 2",
    make: (path) => qemuImg("create", "-q", "-f", "qcow2", "-o", "compat=0.10", path, "16M"),
  },
  {
    name: "512-byte clusters, table too small",
    make: (path) => qemuImg("create", "-q", "-f", "qcow2", "-o", "cluster_size=512", path, "16M"),
  },
  {
    name: "compressed, with a snapshot",
    make: (path) => {
      const raw = `${path}.raw`;
      Deno.writeFileSync(raw, new Uint8Array(16 * MIB).fill(7));
      qemuImg("convert", "-c", "-f", "raw", "-O", "qcow2", raw, path);
      qemuImg("snapshot", "-c", "first", path);
      Deno.removeSync(raw);
    },
  },
];

for (const { name, make } of STARTS) {
  Deno.test(
    { name: `qcow2 (${name}) is sound after a crash at any write`, ignore: !hasQemuImg },
    async () => {
      await withDirectory((directory) => {
        const start = `${directory}/start.qcow2`;
        const path = `${directory}/disk.qcow2`;
        make(start);
        Deno.copyFileSync(start, path);
        const total = limitingChanges(Infinity, () => work(path));
        checkImage(path);
        assert.ok(total > 30);
        const stride = Math.max(1, Math.floor(total / 60));
        for (let count = 0; count < total; count += stride) {
          Deno.copyFileSync(start, path);
          limitingChanges(count, () => work(path));
          try {
            checkImage(path, true);
          } catch (error) {
            throw new Error(`after ${count} of ${total} writes`, { cause: error });
          }
          // Whoever opens it next repairs it; only version 3 says that it needs to be.
          const opened = openDisk(diskRequest(path, { image_type: "Qcow2" }));
          attachDisk(opened.description).close();
          opened.close();
          checkImage(path, name === "version 2");
        }
      }, true);
    },
  );
}

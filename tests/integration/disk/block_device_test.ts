/**
 * Raw and qcow2 disks on host block devices with 512 and 4,096-byte sectors.
 *
 * Needs root and loop devices.
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

function losetup(...args: string[]): string | undefined {
  try {
    const { success, stdout } = new Deno.Command("losetup", { args, stderr: "null" }).outputSync();
    return success ? new TextDecoder().decode(stdout).trim() : undefined;
  } catch {
    return undefined;
  }
}

/** Runs `body` with a loop device over a new file; false where there are none. */
async function withDevice(
  sizeBytes: number,
  sectorBytes: number,
  body: (device: string, file: string) => void,
): Promise<void> {
  await withDirectory((directory) => {
    const file = `${directory}/device.img`;
    Deno.writeFileSync(file, new Uint8Array(sizeBytes));
    const device = losetup("--find", "--show", "--sector-size", `${sectorBytes}`, file);
    assert.ok(device !== undefined, "no loop device");
    try {
      body(device, file);
    } finally {
      losetup("--detach", device);
    }
  });
}

const hasLoop = Deno.uid() === 0 && losetup("--find") !== undefined;
const test = (name: string, body: () => Promise<void>, ignore = false) =>
  Deno.test({
    name: hasLoop ? name : `${name} (skipped: needs root and loop devices)`,
    ignore: !hasLoop || ignore,
    fn: body,
  });

for (const direct of [false, true]) {
  test(`raw disk on a device with 4,096-byte sectors${direct ? ", direct" : ""}`, () =>
    withDevice(8 * MIB, 4096, (device) => {
      const opened = openDisk(diskRequest(device, { image_type: "Raw", direct }));
      assert.deepEqual(opened.topology, { logical: 4096, physical: 4096, minimumIo: 4096, optimalIo: 0 });
      assert.ok(opened.canZero);
      assert.equal(opened.description.sizeBytes, 8 * MIB);
      const disk = attachDisk(opened.description);
      const model = new Uint8Array(8 * MIB);
      const next = random(9);
      for (let i = 0; i < 80; i++) {
        // A driver that does not care for the block size is served all the same.
        const length = 512 * (1 + next(60));
        const offset = 512 * next((model.length - length) / 512);
        const data = pattern(length, i);
        writeDisk(disk, offset, data.slice(0, 100), data.slice(100));
        model.set(data, offset);
      }
      assert.equal(disk.writeZeroes(0, MIB, 65536, false), 0);
      assert.equal(disk.writeZeroes(0, 2 * MIB, 65536, true), 0);
      model.fill(0, MIB, MIB + 65536).fill(0, 2 * MIB, 2 * MIB + 65536);
      assert.equal(disk.discard(0, 3 * MIB, 65536), 0);
      model.set(readDisk(disk, 3 * MIB, 65536), 3 * MIB);
      assert.equal(waitFor(disk, disk.flush(0)), 0);
      assert.deepEqual(readDisk(disk, 0, model.length), model);
      assert.equal(disk.resize(8 * MIB), 0);
      assert.equal(disk.resize(16 * MIB), -22);
      disk.close();
      assert.throws(() => opened.resize(16 * MIB), (error: DiskError) => {
        assert.equal(
          error.chain().at(-1),
          `Block device size ${8 * MIB} does not match requested size ${16 * MIB}`,
        );
        return true;
      });
      opened.close();
    }));
}

test("raw disk on a device is locked by its bytes", () =>
  withDevice(MIB, 512, (device) => {
    const [first, second] = [0, 1].map(() => openDisk(diskRequest(device, { image_type: "Raw" })));
    first.lock.acquire();
    assert.throws(() => second.lock.acquire());
    first.lock.release();
    second.lock.acquire();
    first.close();
    second.close();
  }));

test("qcow2 inside a device works until the device is full", () =>
  withDevice(8 * MIB, 512, (device) => {
    qemuImg("create", "-q", "-f", "qcow2", device, "32M");
    for (const direct of [false, true]) {
      const opened = openDisk(diskRequest(device, { image_type: "Qcow2", direct }));
      const disk = attachDisk(opened.description);
      let written = 0;
      let result = 0;
      while (result >= 0 && written < 32 * MIB) {
        try {
          writeDisk(disk, written, pattern(65536, written));
          written += 65536;
        } catch (error) {
          assert.match(String(error), /-28$/);
          result = -28;
        }
      }
      assert.ok(written > 6 * MIB && written < 8 * MIB);
      assert.equal(waitFor(disk, disk.flush(0)), 0);
      for (let at = 0; at < written; at += 65536) {
        assert.deepEqual(readDisk(disk, at, 65536), pattern(65536, at));
      }
      disk.close();
      opened.close();
      checkImage(device);
    }
  }), !hasQemuImg);

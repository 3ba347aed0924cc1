/**
 * Writes fixed VHD and flat VMDK images at random and has qemu-img judge them.
 */
import assert from "node:assert/strict";
import { attachDisk } from "@vmm/backends/disk/attach.ts";
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

/** Random writes through us, mirrored in memory, read back through us and through qemu-img. */
function exercise(path: string, format: string, sizeBytes: number, direct: boolean): void {
  const opened = openDisk(diskRequest(path, { direct }));
  const disk = attachDisk(opened.description);
  assert.equal(disk.sizeBytes, sizeBytes);
  const model = new Uint8Array(sizeBytes);
  const next = random(sizeBytes);
  for (let i = 0; i < 60; i++) {
    const length = 512 * (1 + next(40));
    const offset = 512 * next((sizeBytes - length) / 512 + 1);
    const data = pattern(length, i);
    writeDisk(disk, offset, data.slice(0, 700), data.slice(700));
    model.set(data, offset);
  }
  assert.deepEqual(readDisk(disk, 0, sizeBytes), model);
  assert.equal(waitFor(disk, disk.flush(0)), 0);
  disk.close();
  opened.close();
  const raw = `${path}.model`;
  Deno.writeFileSync(raw, model);
  qemuImg("compare", "-f", "raw", "-F", format, raw, path);
}

for (const direct of [false, true]) {
  const how = direct ? " with direct I/O" : "";
  Deno.test({ name: `fixed VHD keeps what is written${how}`, ignore: !hasQemuImg }, async () => {
    await withDirectory((directory) => {
      const path = `${directory}/disk.vhd`;
      qemuImg("create", "-q", "-f", "vpc", "-o", "subformat=fixed,force_size=on", path, "8M");
      exercise(path, "vpc", 8 * MIB, direct);
    });
  });

  Deno.test({ name: `flat VMDK keeps what is written${how}`, ignore: !hasQemuImg }, async () => {
    await withDirectory((directory) => {
      const path = `${directory}/disk.vmdk`;
      qemuImg("create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", path, "8M");
      exercise(path, "vmdk", 8 * MIB, direct);
      checkImage(path, true);
    });
  });
}

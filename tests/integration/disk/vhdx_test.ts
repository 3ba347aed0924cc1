/**
 * Writes VHDX images at random and has qemu-img judge them; replays logs QEMU left behind.
 */
import assert from "node:assert/strict";
import { attachDisk } from "@vmm/backends/disk/attach.ts";
import { openDisk } from "@vmm/backends/disk/open.ts";
import { crc32c } from "@vmm/backends/disk/vhdx/crc32c.ts";
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
const SECTOR = 512;

const test = (name: string, body: (directory: string) => void) =>
  Deno.test({ name, ignore: !hasQemuImg }, () => withDirectory(body));

const compareRaw = (directory: string, path: string, model: Uint8Array) => {
  Deno.writeFileSync(`${directory}/model.raw`, model);
  qemuImg("compare", "-f", "raw", "-F", "vhdx", `${directory}/model.raw`, path);
};

for (
  const options of ["subformat=dynamic,block_size=1M", "subformat=fixed", "subformat=dynamic,block_size=8M"]
) {
  for (const direct of [false, true]) {
    test(`VHDX ${options}${direct ? " with direct I/O" : ""} keeps what is written`, (directory) => {
      const path = `${directory}/disk.vhdx`;
      const sizeBytes = 20 * MIB;
      qemuImg("create", "-q", "-f", "vhdx", "-o", options, path, `${sizeBytes}`);
      const model = new Uint8Array(sizeBytes);
      const next = random(options.length);
      for (let round = 0; round < 2; round++) {
        const opened = openDisk(diskRequest(path, { direct }));
        assert.equal(opened.imageType, "Vhdx");
        assert.equal(opened.canZero, false);
        const disk = attachDisk(opened.description);
        assert.equal(disk.sizeBytes, sizeBytes);
        for (let i = 0; i < 60; i++) {
          const length = SECTOR * (1 + next(next(5) === 0 ? 5000 : 40));
          const offset = SECTOR * next((sizeBytes - length) / SECTOR + 1);
          if (next(4) === 0) {
            assert.deepEqual(readDisk(disk, offset, length), model.slice(offset, offset + length));
          } else if (next(8) === 0) {
            assert.equal(waitFor(disk, disk.flush(0)), 0);
          } else {
            const data = pattern(length, i);
            writeDisk(disk, offset, data.slice(0, 333), data.slice(333));
            model.set(data, offset);
          }
        }
        assert.deepEqual(readDisk(disk, 0, sizeBytes), model);
        assert.equal(disk.resize(2 * sizeBytes), -95);
        disk.close();
        opened.close();
        checkImage(path);
        compareRaw(directory, path, model);
      }
    });
  }
}

/** Adds a block full of `byte` to an image, with the change of the table in the log only. */
function leaveLog(path: string, block: number, byte: number): void {
  const [kib64, mib] = [0x10000, MIB];
  const old = Deno.readFileSync(path);
  const end = Math.ceil(old.length / mib) * mib;
  const bytes = new Uint8Array(end + mib);
  bytes.set(old);
  bytes.fill(byte, end);
  const view = new DataView(bytes.buffer);
  const number = [1, 2].map((copy) => view.getBigUint64(copy * kib64 + 8, true));
  const current = (number[0] > number[1] ? 1 : 2) * kib64;
  const logOffset = Number(view.getBigUint64(current + 72, true));
  const logLength = view.getUint32(current + 68, true);
  const guid = pattern(16, 5);
  // The table's region is the one whose identifier begins like this.
  let batOffset = 0;
  for (let at = 3 * kib64 + 16; batOffset === 0; at += 32) {
    if (view.getUint32(at, true) === 0x2dc27766) batOffset = Number(view.getBigUint64(at + 16, true));
  }
  const sector = bytes.slice(batOffset, batOffset + 4096);
  new DataView(sector.buffer).setBigUint64(8 * block, BigInt(end) | 6n, true);
  const entry = new Uint8Array(8192);
  const entryView = new DataView(entry.buffer);
  const at = logLength - 4096; // over the ring's end
  entry.set(new TextEncoder().encode("loge"));
  entryView.setUint32(8, entry.length, true);
  entryView.setUint32(12, at, true);
  entryView.setBigUint64(16, 41n, true);
  entryView.setUint32(24, 1, true);
  entry.set(guid, 32);
  entryView.setBigUint64(48, BigInt(bytes.length), true);
  entryView.setBigUint64(56, BigInt(bytes.length), true);
  entry.set(new TextEncoder().encode("desc"), 64);
  entry.set(sector.subarray(4092), 68);
  entry.set(sector.subarray(0, 8), 72);
  entryView.setBigUint64(80, BigInt(batOffset), true);
  entryView.setBigUint64(88, 41n, true);
  entry.set(sector, 4096);
  entry.set(new TextEncoder().encode("data"), 4096);
  entryView.setUint32(4100, 0, true);
  entryView.setUint32(8188, 41, true);
  entryView.setUint32(4, crc32c(entry), true);
  bytes.set(entry.subarray(0, 4096), logOffset + at);
  bytes.set(entry.subarray(4096), logOffset);
  const header = bytes.subarray(current, current + 4096);
  header.set(guid, 48);
  view.setUint32(current + 4, crc32c(header, 4), true);
  Deno.writeFileSync(path, bytes);
}

test("VHDX replays the log its last writer left", (directory) => {
  const path = `${directory}/disk.vhdx`;
  const theirs = `${directory}/theirs.vhdx`;
  qemuImg("create", "-q", "-f", "vhdx", "-o", "subformat=dynamic,block_size=1M", path, "16M");
  leaveLog(path, 5, 18);
  Deno.copyFileSync(path, theirs);
  assert.throws(() => {
    const opened = openDisk(diskRequest(path, { readonly: true }));
    try {
      attachDisk(opened.description);
    } finally {
      opened.close();
    }
  }, /replayed/);
  const opened = openDisk(diskRequest(path));
  const disk = attachDisk(opened.description);
  assert.deepEqual(readDisk(disk, 5 * MIB, MIB), new Uint8Array(MIB).fill(18));
  disk.close();
  opened.close();
  checkImage(path);
  // QEMU finds the same in the same log.
  qemuImg("check", "-q", "-r", "all", theirs);
  qemuImg("compare", "-f", "vhdx", "-F", "vhdx", path, theirs);
});

test("VHDX writes its table after its blocks", (directory) => {
  const path = `${directory}/disk.vhdx`;
  qemuImg("create", "-q", "-f", "vhdx", "-o", "subformat=dynamic,block_size=1M", path, "16M");
  const opened = openDisk(diskRequest(path));
  const disk = attachDisk(opened.description);
  const empty = new Uint8Array(16 * MIB);
  writeDisk(disk, 3 * MIB, pattern(4096, 1));
  compareRaw(directory, path, empty); // as a crash now would leave it
  checkImage(path);
  assert.equal(waitFor(disk, disk.flush(0)), 0);
  empty.set(pattern(4096, 1), 3 * MIB);
  compareRaw(directory, path, empty);
  disk.close();
  opened.close();
});

test("VHDX with made-up structures gives errors, never a crash", (directory) => {
  const path = `${directory}/disk.vhdx`;
  qemuImg("create", "-q", "-f", "vhdx", "-o", "subformat=dynamic,block_size=1M", path, "16M");
  const good = Deno.readFileSync(path);
  const next = random(77);
  const interesting = [0x10000, 0x20000, 0x30000, 0x40000, 0x200000, 0x210000, 0x300000];
  for (let round = 0; round < 80; round++) {
    const bytes = good.slice();
    for (let i = 0; i < 4; i++) {
      const at = interesting[next(interesting.length)] + next(96);
      if (at < bytes.length) bytes[at] = next(256);
    }
    Deno.writeFileSync(path, bytes);
    try {
      const opened = openDisk(diskRequest(path));
      try {
        const disk = attachDisk(opened.description);
        for (let i = 0; i < 8; i++) {
          const offset = next(Math.min(disk.sizeBytes, 16 * MIB) / SECTOR - 8) * SECTOR;
          try {
            readDisk(disk, offset, 4096);
            writeDisk(disk, offset, pattern(4096, i));
          } catch (error) {
            assert.match(String(error), /: -\d+$/);
          }
        }
        disk.close();
      } finally {
        opened.close();
      }
    } catch (error) {
      assert.match(
        (error as Error).name,
        /DiskError|ImageDamage|HostFailure|ImageFault|OsError/,
        String(error),
      );
    }
  }
});

import assert from "node:assert/strict";
import { addressOf } from "@ffi/libc/syscall.ts";
import { diskRequest, iovecOf, pattern, waitFor } from "@vmm/backends/disk/testing/images.ts";
import { type DiskRequest, openDisk } from "@vmm/backends/disk/open.ts";
import { attachDisk } from "@vmm/backends/disk/attach.ts";
import { DiskError } from "@vmm/backends/disk/disk_error.ts";
import { IovecSlice } from "@vmm/backends/disk/iovec.ts";
import { Scratch } from "@vmm/backends/disk/scratch.ts";
import { IO_PENDING } from "@vmm/virtio/ports/disk.ts";

const request = (path: string, change: Partial<DiskRequest> = {}) =>
  diskRequest(path, { image_type: "Raw", ...change });

function withFile(sizeBytes: number, run: (path: string) => void): void {
  const path = Deno.makeTempFileSync();
  try {
    Deno.truncateSync(path, sizeBytes);
    run(path);
  } finally {
    Deno.removeSync(path);
  }
}

for (const direct of [false, true]) {
  Deno.test(`raw disk ${direct ? "with direct I/O " : ""}reads back what it wrote, aligned or not`, () => {
    withFile(64 * 1024 + 512, (path) => {
      const opened = openDisk(request(path, { direct }));
      const disk = attachDisk(opened.description);
      const model = new Uint8Array(disk.sizeBytes);
      for (
        const [offset, lengths] of [[0, [4096]], [512, [100, 412, 512]], [4096, [8192]], [65024, [1024]], [
          60_928,
          [
            5000,
            120,
          ],
        ]] as const
      ) {
        const parts = lengths.map((length, i) => pattern(length, offset + i));
        const total = lengths.reduce((sum: number, length) => sum + length, 0);
        assert.equal(waitFor(disk, disk.write(0, iovecOf(parts), parts.length, total, offset)), total);
        let at: number = offset;
        for (const part of parts) {
          model.set(part, at);
          at += part.byteLength;
        }
      }
      const all = new Uint8Array(disk.sizeBytes);
      assert.equal(waitFor(disk, disk.read(0, iovecOf([all]), 1, all.byteLength, 0)), all.byteLength);
      assert.deepEqual(all, model);
      assert.equal(waitFor(disk, disk.flush(0)), 0);
      disk.close();
      opened.close();
      assert.equal(Deno.statSync(path).size, 64 * 1024 + 512, "rounding must not grow the file");
      assert.deepEqual(Deno.readFileSync(path), model);
    });
  });
}

Deno.test("raw disk with direct I/O keeps many transfers under way and reports each once", () => {
  withFile(4 << 20, (path) => {
    const opened = openDisk(request(path, { direct: true }));
    const disk = attachDisk(opened.description);
    const memory = new Scratch(4 << 20);
    const model = pattern(4 << 20, 8);
    memory.bytes.set(model);
    const list = new IovecSlice();
    const results = new Map<number, number>();
    const note = (token: number, result: number) => {
      assert.ok(!results.has(token), `token ${token} came back twice`);
      results.set(token, result);
    };
    const all = (run: (token: number, iov: Uint8Array<ArrayBuffer>, offset: number) => number) => {
      results.clear();
      // More than fit into the ring, in another order than on the disk.
      for (let token = 0; token < 1024; token++) {
        const offset = (token * 7 % 1024) * 4096;
        list.setSingle(memory.hostAddress + offset, 4096);
        const result = run(token, list.bytes, offset);
        if (result !== IO_PENDING) note(token, result);
        if (token % 100 === 99) {
          disk.submit();
          disk.reap(note);
        }
      }
      disk.submit();
      disk.drain(note);
      assert.equal(results.size, 1024);
      for (const result of results.values()) assert.equal(result, 4096);
    };
    all((token, iov, offset) => disk.write(token, iov, 1, 4096, offset));
    assert.deepEqual(Deno.readFileSync(path), model);
    memory.bytes.fill(0);
    all((token, iov, offset) => disk.read(token, iov, 1, 4096, offset));
    assert.deepEqual(memory.bytes, model);
    disk.close();
    opened.close();
    memory.close();
  });
});

Deno.test("raw disk gives space back and zeroes ranges", () => {
  withFile(1 << 20, (path) => {
    Deno.writeFileSync(path, new Uint8Array(1 << 20).fill(7));
    const opened = openDisk(request(path));
    const disk = attachDisk(opened.description);
    const blocks = Deno.statSync(path).blocks!;
    assert.equal(disk.discard(0, 65536, 65536), 0);
    assert.ok(Deno.statSync(path).blocks! < blocks);
    assert.equal(disk.writeZeroes(0, 4096, 1024, false), 0);
    const bytes = Deno.readFileSync(path);
    assert.ok(bytes.subarray(65536, 131072).every((byte) => byte === 0));
    assert.ok(bytes.subarray(4096, 5120).every((byte) => byte === 0));
    assert.deepEqual([bytes[4095], bytes[5120], bytes[65535], bytes[131072]], [7, 7, 7, 7]);
    disk.close();
    opened.close();
  });
});

Deno.test("raw disk resizes a file", () => {
  withFile(4096, (path) => {
    const opened = openDisk(request(path));
    opened.resize(8192);
    assert.equal(Deno.statSync(path).size, 8192);
    assert.throws(() => opened.resize(1000), DiskError);
    opened.close();
  });
});

Deno.test("raw disk takes more iovec entries than one call", () => {
  withFile(1 << 20, (path) => {
    const opened = openDisk(request(path));
    const disk = attachDisk(opened.description);
    const parts = Array.from({ length: 1500 }, (_, i) => pattern(512, i));
    assert.equal(waitFor(disk, disk.write(0, iovecOf(parts), parts.length, 1500 * 512, 512)), 1500 * 512);
    assert.deepEqual(Deno.readFileSync(path).subarray(512 * 1001, 512 * 1002), pattern(512, 1000));
    disk.close();
    opened.close();
  });
});

Deno.test("openDisk() explains itself in the original's words", () => {
  const chainOf = (run: () => unknown): string[] => {
    try {
      run();
    } catch (error) {
      return (error as DiskError).chain();
    }
    throw new Error("nothing was thrown");
  };
  assert.deepEqual(chainOf(() => openDisk(request("/nonexistent/image"))), [
    "Cannot open disk path",
    "I/O error (path=/nonexistent/image op=open)",
    "No such file or directory (os error 2)",
  ]);
  for (const readonly of [false, true]) {
    assert.deepEqual(chainOf(() => openDisk(request("/", { readonly }))), [
      "Cannot open disk path",
      "I/O error (path=/ op=open)",
      "Is a directory (os error 21)",
    ]);
  }
  assert.equal(
    chainOf(() => openDisk(request("/dev/null")))[2],
    "disk image must be a regular file or block device, is: a character device",
  );
  withFile(4096, (path) => {
    assert.deepEqual(chainOf(() => openDisk(request(path, { image_type: "Qcow2" }))), [
      "Disk image type does not match expected type: specified = qcow2, detected = raw",
    ]);
  });
});

Deno.test("openDisk() detects the type, says so, and protects sector 0", () => {
  withFile(4096 + 100, (path) => {
    const opened = openDisk(request(path, { image_type: "Unknown" }));
    assert.equal(opened.imageType, "Raw");
    assert.ok(opened.protectSectorZero);
    assert.equal(opened.warnings.length, 4);
    assert.equal(opened.defaultSerial.byteLength, 20);
    opened.close();
  });
});

Deno.test("ImageLock excludes a second writer and lets readers share", () => {
  withFile(4096, (path) => {
    const writer = openDisk(request(path));
    const other = openDisk(request(path, { lock_granularity: "Full" }));
    writer.lock.acquire();
    assert.throws(() => other.lock.acquire(), (error: DiskError) => {
      assert.deepEqual(error.chain(), [
        "Cannot lock images of all block devices",
        `Failed to get Write lock for disk image: ${path}`,
        "The file is already locked",
      ]);
      return true;
    });
    assert.equal(other.lock.holder(), "ExclusiveWrite");
    writer.lock.release();
    other.lock.acquire();
    other.close();
    const readers = [0, 1].map(() => openDisk(request(path, { readonly: true })));
    readers.forEach((reader) => reader.lock.acquire());
    assert.throws(() => writer.lock.acquire(), DiskError);
    [writer, ...readers].forEach((disk) => disk.close());
  });
});

Deno.test("IovecSlice takes the middle of a list", () => {
  const [a, b, c] = [pattern(10, 0), pattern(20, 0), pattern(30, 0)];
  const list = iovecOf([a, b, c]);
  const slice = new IovecSlice();
  slice.set(list, 3, 15, 30);
  const view = new DataView(slice.bytes.buffer);
  assert.deepEqual([slice.count, slice.lengthBytes], [2, 30]);
  assert.equal(view.getBigUint64(0, true), addressOf(b) + 5n);
  assert.deepEqual([view.getBigUint64(8, true), view.getBigUint64(24, true)], [15n, 15n]);
  slice.set(list, 3, 0, 100);
  assert.deepEqual([slice.count, slice.lengthBytes], [3, 60]);
});

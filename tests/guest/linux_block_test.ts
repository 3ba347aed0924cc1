/** Disks under Linux: reading, writing, flushing, read-only, serial numbers, locks; data checked from the host. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { patternSector, TempDisk } from "@tests/framework/images.ts";
import { LinuxGuest, sections } from "./linux_guest.ts";
import { linuxTest, startVm } from "./subject.ts";

const MIB = 2 ** 20;
const SECTOR_BYTES = 512;

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

linuxTest("three disks: what the guest reads is in the files, what it writes gets there", async () => {
  await using writable = await TempDisk.pattern(4 * MIB);
  await using readonly = await TempDisk.pattern(2 * MIB);
  await using filesystem = await TempDisk.empty(8 * MIB);
  const before = { writable: await writable.sha256(), readonly: await readonly.sha256() };
  await using guest = await LinuxGuest.boot({
    config: {
      cpus: { boot_vcpus: 2, max_vcpus: 2 },
      disks: [
        { path: writable.path, image_type: "Raw", serial: "writable-0001", id: "data" },
        { path: readonly.path, image_type: "Raw", readonly: true },
        { path: filesystem.path, image_type: "Raw", num_queues: 2 },
      ],
    },
    script: `
      cd /sys/block
      section attributes; cat vd[abc]/size vd[abc]/ro vda/cache_type vda/queue/logical_block_size; ls -1 vdc/mq
      section serials; cat vda/serial vdb/serial
      section sums; sha256sum </dev/vda; sha256sum </dev/vdb
      section sector; dd if=/dev/vda bs=512 skip=4097 count=1 iflag=direct 2>/dev/null | sha256sum
      dd if=/dev/vdb of=/dev/vda bs=64k seek=16 conv=notrunc,fsync 2>/dev/null || echo failed
      wait_for copied
      for size in 512 4096 65536 262144; do
        dd if=/dev/vdb of=/dev/vda bs=$size count=1 skip=1 seek=1 conv=notrunc oflag=direct 2>/dev/null || echo failed
        wait_for $size
      done
      section readonly; dd if=/dev/zero of=/dev/vdb bs=512 count=1 conv=fsync 2>/dev/null && echo written
      section files
      mke2fs -q /dev/vdc >/dev/null && mount -t ext2 /dev/vdc /mnt || echo failed
      for mask in 1 2; do taskset $mask sh -c "dd if=/dev/vdb of=/mnt/$mask bs=4k conv=fsync 2>/dev/null" & done; wait
      umount /mnt; mount -t ext2 /dev/vdc /mnt; sha256sum /mnt/1 /mnt/2; umount /mnt
      wait_for locks
      dd if=/dev/vdb of=/dev/vda bs=1k count=8 seek=100 conv=notrunc 2>/dev/null || echo failed
      section end`,
  });
  const { vm } = guest;

  const { text } = await guest.at("copied", async () => {
    assert.equal(sha256(await writable.read(MIB, 2 * MIB)), before.readonly);
    for (const sector of [MIB / SECTOR_BYTES - 1, 3 * MIB / SECTOR_BYTES]) {
      assert.deepEqual(await writable.read(sector * SECTOR_BYTES, SECTOR_BYTES), patternSector(sector));
    }
  });
  const seen = sections(text);
  assert.equal(seen.attributes, "8192\n4096\n16384\n0\n1\n0\nwrite back\n512\n0\n1\n");
  const { dev, rdev, ino } = await Deno.stat(readonly.path);
  // Linux shows them without a line feed.
  assert.equal(seen.serials, "writable-0001" + `${dev}${rdev}${ino}`.slice(0, 20));
  assert.equal(seen.sums, `${before.writable}  -\n${before.readonly}  -\n`);
  assert.ok(seen.sector.startsWith(`${sha256(patternSector(4097))}  -\n`), seen.sector);

  for (const size of [512, 4096, 65536, 262144]) {
    const { text: log } = await guest.at(`${size}`, async () => {
      assert.equal(
        sha256(await writable.read(size, size)),
        sha256(await readonly.read(size, size)),
        `${size}`,
      );
    });
    assert.doesNotMatch(log, /failed/);
  }

  const rest = await guest.at("locks", async () => {
    assert.equal(await readonly.sha256(), before.readonly);
    const counters = (await vm.api.get("vm.counters")).json<Record<string, Record<string, number>>>();
    assert.deepEqual(Object.keys(counters).sort(), ["_disk0", "_disk1", "data"]);
    assert.ok(
      counters.data.read_bytes >= 4 * MIB && counters.data.write_bytes >= 2 * MIB,
      JSON.stringify(counters),
    );
    assert.ok(counters.data.read_ops > 0 && counters.data.write_ops > 0, JSON.stringify(counters));
    // No second VM may have the writable disk; the read-only one it may share.
    await using other = await startVm();
    const { config } = await vm.api.info();
    const boot = async (path: string, isReadonly: boolean) => {
      await other.api.mustPut("vm.create", {
        payload: config.payload,
        memory: { size: 64 * MIB },
        disks: [{ path, readonly: isReadonly, image_type: "Raw" }],
        console: { mode: "Off" },
      });
      const response = await other.api.put("vm.boot");
      await other.api.mustPut("vm.delete");
      return response;
    };
    const refused = await boot(writable.path, false);
    assert.equal(refused.status, 500);
    assert.match(refused.body, /Error locking disk images: Another instance likely holds a lock/);
    assert.equal((await boot(writable.path, true)).status, 500);
    assert.equal((await boot(readonly.path, true)).status, 204);
  });
  const later = sections(rest.text);
  assert.equal(later.readonly, "");
  assert.ok(later.files.startsWith(`${before.readonly}  /mnt/1\n${before.readonly}  /mnt/2\n`), later.files);

  const { text: end, code, exit } = await guest.end();
  assert.doesNotMatch(end, /failed/);
  assert.deepEqual([code, exit], [0, { code: 0, signal: null }]);
  // The guest has powered off: everything written is there, synced or not.
  assert.equal(sha256(await writable.read(100 * 1024, 8192)), sha256(await readonly.read(0, 8192)));
});

/** Devices of a Linux guest behind the virtual IOMMU. */
import assert from "node:assert/strict";
import { TempDisk } from "@tests/framework/images.ts";
import { LinuxGuest, sections } from "./linux_guest.ts";
import { linuxTest } from "./subject.ts";

const MIB = 2 ** 20;

linuxTest("a Linux guest uses disks and the entropy device through the virtual IOMMU", async () => {
  await using plain = await TempDisk.pattern(MIB);
  await using guarded = await TempDisk.pattern(MIB);
  const original = await guarded.sha256();
  await using guest = await LinuxGuest.boot({
    config: {
      disks: [
        { path: plain.path, image_type: "Raw" },
        { path: guarded.path, image_type: "Raw", iommu: true },
      ],
      rng: { src: "/dev/urandom", iommu: true },
    },
    script: `
      section groups
      for device in /sys/kernel/iommu_groups/*/devices/*; do echo "\${device##*/}"; done | sort
      section class; ls /sys/class/iommu | wc -l
      section read; sha256sum </dev/vdb
      dd if=/dev/zero of=/dev/vdb bs=64k count=2 seek=1 conv=fsync 2>/dev/null || echo failed
      section random; dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c
      section end`,
  });
  const { text, exit } = await guest.end();
  const part = sections(text);
  // The host bridge and the console are slots 0 and 1, the disk without the IOMMU is slot 2.
  assert.equal(part.groups, "0000:00:03.0\n0000:00:04.0\n");
  assert.equal(part.class, "1\n");
  assert.ok(part.read.startsWith(`${original}  -\n`), text);
  assert.equal(part.random, "64\n");
  assert.doesNotMatch(text, /failed/);
  assert.deepEqual(await guarded.read(MIB / 16, MIB / 8), new Uint8Array(MIB / 8));
  assert.deepEqual(await guarded.read(0, MIB / 16), await plain.read(0, MIB / 16));
  assert.equal(exit.code, 0);
});

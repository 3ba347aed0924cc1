/** Devices of a Linux guest behind the virtual IOMMU. */
import assert from "node:assert/strict";
import { TempDisk } from "@tests/framework/images.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { LinuxGuest, sections } from "./linux_guest.ts";
import { linuxTest } from "./subject.ts";

const MIB = 2 ** 20;

linuxTest("a Linux guest uses console, disk, network and entropy through the virtual IOMMU", async () => {
  await using network = await NetworkNamespace.create();
  await network.addTap("tap0", { address: "192.168.75.1/24" });
  await using plain = await TempDisk.pattern(MIB);
  await using guarded = await TempDisk.pattern(MIB);
  const original = await guarded.sha256();
  await using guest = await LinuxGuest.boot({
    netns: network.name,
    config: {
      console: { mode: "Pty", iommu: true },
      net: [{ tap: "tap0", iommu: true }],
      disks: [
        { path: plain.path, image_type: "Raw" },
        { path: guarded.path, image_type: "Raw", iommu: true, queue_size: 1024 }, // rings of several pages
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
      section ping; ifconfig eth0 192.168.75.2 up; ping -c 2 -s 4000 192.168.75.1
      section end`,
  });
  const { text, exit } = await guest.end();
  const part = sections(text);
  // The host bridge is slot 0, the disk without the IOMMU slot 2.
  assert.equal(part.groups, [1, 3, 4, 5].map((slot) => `0000:00:0${slot}.0\n`).join(""));
  assert.equal(part.class, "1\n");
  assert.ok(part.read.startsWith(`${original}  -\n`), text);
  assert.equal(part.random, "64\n");
  assert.match(part.ping, / 0% packet loss/);
  assert.doesNotMatch(text, /failed/);
  assert.deepEqual(await guarded.read(MIB / 16, MIB / 8), new Uint8Array(MIB / 8));
  assert.deepEqual(await guarded.read(0, MIB / 16), await plain.read(0, MIB / 16));
  assert.equal(exit.code, 0);
}, { root: true, commands: ["ip"] });

linuxTest("a disk that comes to a segment behind the virtual IOMMU has a group there", async () => {
  await using disk = await TempDisk.pattern(MIB);
  await using guest = await LinuxGuest.boot({
    config: { platform: { num_pci_segments: 2, iommu_segments: [1] } },
    script: `
      wait_for disk
      until [ -e /dev/vda ]; do usleep 50000; done
      section groups
      for device in /sys/kernel/iommu_groups/*/devices/*; do echo "\${device##*/}"; done
      section read; sha256sum </dev/vda
      section end`,
  });
  await guest.at("disk", async () => {
    const config = { path: disk.path, image_type: "Raw", id: "late", pci_segment: 1, iommu: true };
    const answer = await guest.vm.api.put("vm.add-disk", config);
    assert.deepEqual([answer.status, answer.json()], [200, { id: "late", bdf: "0001:00:00.0" }]);
  });
  const { text, exit } = await guest.end();
  const part = sections(text);
  assert.equal(part.groups, "0001:00:00.0\n");
  assert.ok(part.read.startsWith(`${await disk.sha256()}  -\n`), text);
  assert.equal(exit.code, 0);
});

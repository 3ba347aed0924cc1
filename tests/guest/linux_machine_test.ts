/** A Linux guest's view of its processors, memory, interrupts and PCI devices. */
import assert from "node:assert/strict";
import { TempDisk } from "@tests/framework/images.ts";
import { LinuxGuest, sections } from "./linux_guest.ts";
import { linuxTest } from "./subject.ts";

const MIB = 2 ** 20;

/** A field of every processor in `/proc/cpuinfo`. */
function cpuField(cpuinfo: string, name: string): number[] {
  return [...cpuinfo.matchAll(new RegExp(`^${name}\\s*: (\\d+)$`, "gm"))].map(([, value]) => Number(value));
}

/** BAR 0 of a PCI function, from its `resource` file. */
function bar(resource: string): { start: bigint; size: bigint } {
  const [start, end] = resource.split("\n")[0].split(" ").map(BigInt);
  return { start, size: end - start + 1n };
}

/** Counts of the virtio interrupts over all processors, by name. */
function interrupts(text: string, cpus: number): Map<string, number> {
  const pattern = new RegExp(`^\\s*\\d+:((?:\\s+\\d+){${cpus}})\\s+PCI-MSI.*\\s(virtio\\S+)$`, "gm");
  return new Map(
    [...text.matchAll(pattern)].map(([, counts, name]) => [
      name,
      counts.trim().split(/\s+/).reduce((sum, count) => sum + Number(count), 0),
    ]),
  );
}

/** Counts of a line of `/proc/interrupts` that has a name in place of a number. */
function counts(text: string, name: string): number[] {
  return new RegExp(`^\\s*${name}:((?:\\s+\\d+)+)`, "m").exec(text)![1].trim().split(/\s+/).map(Number);
}

const ENTROPY = "/sys/bus/pci/devices/0000:00:03.0";
const DRIVE = "/sys/bus/pci/devices/0000:00:02.0";

linuxTest("four vCPUs, 128 MiB, entropy, PCI, moving BARs, MSI-X and NMI under Linux", async () => {
  await using disk = await TempDisk.pattern(64 * 512);
  await using guest = await LinuxGuest.boot({
    config: {
      cpus: {
        boot_vcpus: 4,
        max_vcpus: 4,
        topology: { threads_per_core: 2, cores_per_die: 2, dies_per_package: 1, packages: 1 },
      },
      disks: [{ path: disk.path, readonly: true, image_type: "Raw" }],
    },
    script: `
      section cpuinfo; cat /proc/cpuinfo
      section each; for mask in 1 2 4 8; do taskset $mask sh -c "echo on $mask"; done
      section memory; grep ^MemTotal: /proc/meminfo; dmesg | grep BIOS-e820
      section clock; read a </sys/devices/system/clocksource/clocksource0/current_clocksource; echo $a
      section entropy; read a </sys/class/misc/hw_random/rng_current; echo $a
      dd if=/dev/hwrng bs=64 count=1 2>/dev/null | md5sum
      dd if=/dev/hwrng bs=64 count=1 2>/dev/null | md5sum
      dd if=/dev/hwrng bs=1000 count=4 2>/dev/null | wc -c
      section interrupts; cat /proc/interrupts
      sha256sum </dev/vda; dd if=/dev/hwrng of=/dev/null bs=512 count=8
      section "more interrupts"; cat /proc/interrupts
      section pci
      cd /sys/bus/pci/devices
      for f in *; do
        read a <$f/vendor; read b <$f/device; read c <$f/class; read d <$f/subsystem_device; echo $f $a $b $c $d
      done
      section before; head -n 1 ${ENTROPY}/resource
      echo 1 >${ENTROPY}/remove; [ -e ${ENTROPY} ] && echo still there
      echo 1 >/sys/bus/pci/rescan
      section after; head -n 1 ${ENTROPY}/resource
      section "entropy again"; dd if=/dev/hwrng bs=100 count=2 2>/dev/null | wc -c
      section "drive before"; sha256sum </dev/vda
      echo 1 >${DRIVE}/remove; [ -e /dev/vda ] && echo still there
      echo 1 >/sys/bus/pci/rescan
      section "drive after"; sha256sum </dev/vda
      wait_for nmi
      until grep NMI: /proc/interrupts | grep -q ' 1 .* 1 .* 1 .* 1 '; do usleep 50000; done
      section nmi; grep NMI: /proc/interrupts
      section end; exit 3`,
  });
  const { text } = await guest.at("nmi", () => guest.vm.api.mustPut("vm.nmi"));
  const seen = sections(text);
  const last = await guest.end();

  assert.deepEqual(cpuField(seen.cpuinfo, "processor"), [0, 1, 2, 3]);
  assert.deepEqual(cpuField(seen.cpuinfo, "physical id"), [0, 0, 0, 0]);
  assert.deepEqual(cpuField(seen.cpuinfo, "siblings"), [4, 4, 4, 4]);
  assert.deepEqual(cpuField(seen.cpuinfo, "cpu cores"), [2, 2, 2, 2]);
  assert.deepEqual(cpuField(seen.cpuinfo, "core id"), [0, 0, 1, 1]);
  assert.deepEqual(cpuField(seen.cpuinfo, "apicid"), [0, 1, 2, 3]);
  assert.match(seen.cpuinfo, /^flags\s*:.* hypervisor /m);
  assert.equal(seen.each, "on 1\non 2\non 4\non 8\n");

  const totalKib = Number(/^MemTotal:\s+(\d+) kB/.exec(seen.memory)![1]);
  assert.ok(totalKib > 100 * 1024 && totalKib <= 128 * 1024, `${totalKib} KiB`);
  const ram = [...seen.memory.matchAll(/\[mem (0x[0-9a-f]+)-(0x[0-9a-f]+)\] usable/g)];
  assert.deepEqual(ram.map(([, from, to]) => [Number(from), Number(to)]), [
    [0, 0x9_ffff],
    [0x10_0000, 128 * MIB - 1],
  ]);
  assert.match(seen.clock, /^(tsc|kvm-clock)\n$/);

  const [source, first, second, amount] = seen.entropy.split("\n");
  assert.equal(source, "virtio_rng.0");
  assert.notEqual(first, second);
  assert.equal(amount, "4000");

  const [before, after] = [interrupts(seen.interrupts, 4), interrupts(seen["more interrupts"], 4)];
  assert.deepEqual([...before.keys()].sort(), [
    ...["virtio0-config", "virtio0-input", "virtio0-output"],
    ...["virtio1-config", "virtio1-req.0"],
    ...["virtio2-config", "virtio2-input"],
  ]);
  for (const name of ["virtio0-output", "virtio1-req.0", "virtio2-input"]) {
    assert.ok(after.get(name)! > before.get(name)!, `${name}: ${before.get(name)} → ${after.get(name)}`);
  }
  assert.doesNotMatch(seen.interrupts, /IO-APIC.*timer|cascade/);

  assert.deepEqual(seen.pci.trim().split("\n"), [
    "0000:00:00.0 0x8086 0x0d57 0x060000 0x0000",
    "0000:00:01.0 0x1af4 0x1043 0xffff00 0x1043",
    "0000:00:02.0 0x1af4 0x1042 0x018000 0x1042",
    "0000:00:03.0 0x1af4 0x1044 0xffff00 0x1044",
  ]);

  const [old, now] = [bar(seen.before), bar(seen.after)];
  assert.equal(now.size, old.size);
  assert.notEqual(now.start, old.start);
  assert.equal(seen["entropy again"], "200\n");
  const sum = `${await disk.sha256()}  -\n`;
  assert.equal(seen["drive before"], sum);
  assert.ok(seen["drive after"].startsWith(sum), seen["drive after"]);

  assert.deepEqual(counts(sections(last.text).nmi, "NMI"), [1, 1, 1, 1]);
  assert.equal(last.code, 3);
  assert.deepEqual(last.exit, { code: 0, signal: null });
});

/** Files that cannot be persistent memory, beside the original: the same statuses and words. */
import assert from "node:assert/strict";
import { TempDisk } from "@tests/framework/images.ts";
import { type ProgramName, testWith } from "@tests/framework/programs.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { Vm } from "@tests/framework/vm.ts";

const MIB = 1 << 20;

/** `vm.add-pmem` of every bad file, and of a good one at the end. */
async function answersOf(program: ProgramName): Promise<string[]> {
  await using puppet = await Puppet.make();
  await using good = await TempDisk.empty(4 * MIB);
  await using odd = await TempDisk.empty(2 * MIB + 512);
  await using empty = await TempDisk.empty(0);
  await using vm = await Vm.start({ program, args: puppet.args() });
  await puppet.started();
  const configs: Record<string, unknown>[] = [
    { file: "/nonexistent" },
    { file: good.directory },
    { file: good.directory, size: 4097 },
    { file: good.directory, size: 2 ** 46 },
    { file: odd.path },
    { file: empty.path },
    { file: good.path, size: 0 },
    { file: good.path, size: 4096 },
    { file: "/dev/null" },
    { file: "/proc/version" },
    { file: good.path, pci_segment: 3 },
    { file: good.path, pci_device_id: 0 },
    { file: good.path, pci_device_id: 40 },
    { file: good.path, iommu: true },
    { file: good.path, size: 8 * MIB, id: "longer" },
    { file: good.path, id: "good" },
    { file: good.path, id: "good" },
  ];
  const answers = [];
  for (const config of configs) {
    const { status, body } = await vm.api.put("vm.add-pmem", config);
    const text = [good, odd, empty].reduce((all, disk) => all.replaceAll(disk.directory, "dir"), body);
    answers.push(`${JSON.stringify(config).replace(/"[^"]*nephos-disk[^"]*"/, "file")}: ${status} ${text}`);
  }
  const ids = (await vm.api.info()).config.pmem.map(({ id }: { id: string }) => id);
  return [...answers, ids.join(" ")];
}

const NEEDS = { kvm: true, binary: true, reference: true };

testWith(NEEDS, "files that cannot be persistent memory are refused as the original does", async () => {
  assert.deepEqual(await answersOf("nephos"), await answersOf("reference"));
});

/**
 * What a guest sees of the machine, beside the original: the same configuration on both programs, everything compared that
 * can be read without a driver. Equal, or in `guest_view_differences.ts` and `docs/differences.md`.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { TempDisk } from "@tests/framework/images.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { type ProgramName, ROOT, testWith } from "@tests/framework/programs.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { Vm } from "@tests/framework/vm.ts";
import { ALLOWED_DIFFERENCES, isAllowed } from "./guest_view_differences.ts";
import { registerView, type View } from "./register_view.ts";

const MIB = 2 ** 20;
const MAX_PHYS_BITS = 46;

/** A machine; `{disk}` and `{second}` are images, taps are `tap0` and `tap1`. */
interface Machine {
  name: string;
  args: string[];
  segments?: number;
  physBits?: number;
}

const MACHINES: Machine[] = [
  { name: "nothing but what is always there", args: [] },
  {
    name: "console, disk, net",
    args: [
      "--console",
      "null",
      "--disk",
      "path={disk},image_type=raw",
      "--net",
      "tap=tap0,mac=52:54:00:01:02:03",
    ],
  },
  {
    name: "four vCPUs, hot-plug of four more and of memory",
    args: ["--cpus", "boot=4,max=8,topology=2:2:1:2", "--serial", "off", "--pvpanic"],
  },
  {
    name: "disks of many kinds",
    args: [
      "--cpus",
      "boot=4",
      "--disk",
      "path={disk},image_type=raw,readonly=on,serial=abc",
      "path={second},image_type=raw,num_queues=4,queue_size=64,sparse=off,pci_device_id=9",
    ],
  },
  {
    name: "network devices of many kinds",
    args: [
      "--cpus",
      "boot=2",
      "--net",
      "tap=tap0,mac=52:54:00:01:02:03,mtu=1400,offload_tso=off,offload_ufo=off",
      "tap=tap1,mac=52:54:00:01:02:04,num_queues=4,queue_size=64,offload_tso=off,offload_ufo=off,offload_csum=off",
    ],
  },
  {
    name: "two PCI segments, 40 bits of address",
    args: [
      ...["--platform", "num_pci_segments=2", "--pci-segment", "pci_segment=1,mmio64_aperture_weight=3"],
      ...["--disk", "path={disk},image_type=raw,pci_segment=1", "--cpus", "boot=1,max_phys_bits=40"],
    ],
    segments: 2,
    physBits: 40,
  },
  { name: "balloon", args: ["--balloon", "size=16M,deflate_on_oom=on,free_page_reporting=on"] },
  { name: "watchdog and clock", args: ["--watchdog", "--rtc", "id=clock"] },
  { name: "persistent memory", args: ["--pmem", "file={second},discard_writes=on"] },
  {
    name: "everything that can be behind a virtual IOMMU",
    args: [
      ...["--console", "null,iommu=on", "--rng", "src=/dev/urandom,iommu=on", "--watchdog"],
      ...["--disk", "path={disk},image_type=raw,iommu=on"],
      ...["--net", "tap=tap0,mac=52:54:00:01:02:03,iommu=on", "--balloon", "size=16M,iommu=on"],
      ...["--rtc", "id=clock,iommu=on", "--pmem", "file={second},iommu=on", "--pvpanic"],
    ],
  },
  {
    name: "segments behind a virtual IOMMU",
    args: [
      ...["--platform", "num_pci_segments=3,iommu_segments=[2,1],iommu_address_width=40"],
      ...["--rng", "src=/dev/urandom,iommu=on,pci_segment=1", "--balloon", "size=16M,iommu=on"],
      ...["--disk", "path={disk},image_type=raw,pci_segment=2,pci_device_id=7,iommu=on"],
    ],
    segments: 3,
  },
];

async function viewOf(
  program: ProgramName,
  machine: Machine,
  files: Record<string, string>,
  netns: string,
): Promise<View> {
  await using puppet = await Puppet.make();
  const given = machine.args.map((argument) => argument.replace(/\{(\w+)\}/, (_, name) => files[name]));
  // What the machine says itself takes the place of what a puppet has otherwise.
  const usual = puppet.args();
  for (const option of ["--serial", "--console"]) {
    if (given.includes(option)) usual.splice(usual.indexOf(option), 2);
  }
  await using vm = await Vm.start({ program, netns, args: [...usual, ...given] });
  await puppet.started();
  const view = await registerView(
    puppet,
    machine.segments ?? 1,
    Math.min(machine.physBits ?? MAX_PHYS_BITS, hostPhysBits()),
  );
  view.set("device tree", await deviceTree(vm));
  return view;
}

/** The device tree in an order of its own. */
async function deviceTree(vm: Vm): Promise<string> {
  const { device_tree } = await vm.api.info();
  const sorted = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(sorted);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1).map(([key, inner]) => [key, sorted(inner)]),
    );
  };
  return JSON.stringify(sorted(device_tree), null, 1);
}

function hostPhysBits(): number {
  const text = Deno.readTextFileSync("/proc/cpuinfo");
  return Number(/^address sizes\s*: (\d+) bits physical/m.exec(text)![1]);
}

const NEEDS = { kvm: true, root: true, binary: true, reference: true, commands: ["ip"] };

for (const machine of MACHINES) {
  testWith(NEEDS, `a guest sees what it sees with the original: ${machine.name}`, async () => {
    await using network = await NetworkNamespace.create();
    await network.addTap("tap0");
    await network.addTap("tap1", { queues: 2 });
    await using disk = await TempDisk.pattern(MIB);
    await using second = await TempDisk.pattern(4 * MIB);
    const files = { disk: disk.path, second: second.path };
    const theirs = await viewOf("reference", machine, files, network.name);
    const ours = await viewOf("nephos", machine, files, network.name);
    const differing = [...new Set([...theirs.keys(), ...ours.keys()])].flatMap((view) => {
      const [expected, actual] = [theirs.get(view) ?? "", ours.get(view) ?? ""];
      return isAllowed(view, expected, actual)
        ? []
        : [`${view}\n  original ${expected}\n  Nephos   ${actual}`];
    });
    assert.equal(differing.join("\n"), "");
  });
}

Deno.test("every allowed difference is in the documentation", async () => {
  const text = await Deno.readTextFile(join(ROOT, "docs", "differences.md"));
  for (const { row } of ALLOWED_DIFFERENCES) {
    assert.ok(text.includes(row), `docs/differences.md lacks "${row}"`);
  }
});

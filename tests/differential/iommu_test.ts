/**
 * The virtual IOMMU beside the original: the same requests on both, the same statuses; what devices behind it offer; what
 * may be added to a running VM.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { TempDisk } from "@tests/framework/images.ts";
import { IommuDriver, requestBytes } from "@tests/framework/iommu_driver.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { type ProgramName, testWith } from "@tests/framework/programs.ts";
import { HOTPLUG_CPUS } from "@tests/framework/pci_hotplug.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { type Buffer, DriverMemory, VirtioDriver } from "@tests/framework/virtio_driver.ts";
import { Vm } from "@tests/framework/vm.ts";

const NEEDS = { kvm: true, binary: true, reference: true };
const MIB = 1 << 20;
/** Functions behind the IOMMU: the entropy device in slot 1, the balloon in slot 2. */
const RNG = 8;
const BALLOON = 16;
const END = 0xffff_ffff_ffff_ffffn;

type Step = readonly [what: string, run: (iommu: IommuDriver) => Promise<unknown>];

const hex = (value: bigint) => value.toString(16);
const attach = (domain: number, endpoint: number, flags = 0): Step => [
  `attach ${endpoint} to ${domain}, flags ${flags}`,
  (iommu) => iommu.attach(domain, endpoint, flags),
];
const detach = (domain: number, endpoint: number): Step => [
  `detach ${endpoint} from ${domain}`,
  (iommu) => iommu.detach(domain, endpoint),
];
const map = (domain: number, start: bigint, end: bigint, physical = 0x80_0000n, flags = 3): Step => [
  `map ${domain}: ${hex(start)}-${hex(end)} to ${hex(physical)}, flags ${flags}`,
  (iommu) => iommu.map(domain, start, end, physical, flags),
];
const unmap = (domain: number, start: bigint, end: bigint): Step => [
  `unmap ${domain}: ${hex(start)}-${hex(end)}`,
  (iommu) => iommu.unmap(domain, start, end),
];
/** What is written into the writable buffers; how long it is said to be only where it is no error. */
const send = (what: string, ...buffers: Buffer[]): Step => [what, async (iommu) => {
  const { received } = await iommu.exchange(buffers);
  return received.map((bytes) => [...bytes].join(" ")).join(" | ");
}];
const tail = { receive: 4 };

/** Each is played on a fresh IOMMU. */
const SCRIPTS: readonly (readonly Step[])[] = [
  [
    ...[attach(1, RNG), attach(1, RNG), map(1, 0x1000n, 0x1fffn), map(1, 0x1000n, 0x1fffn)],
    ...[
      map(1, 0x3000n, 0x6fffn),
      map(1, 0x4000n, 0x4fffn),
      map(1, 0x2000n, 0x3fffn),
      map(1, 0x2000n, 0x2fffn),
    ],
    ...[
      unmap(1, 0x4000n, 0x4fffn),
      unmap(1, 0x0n, 0x4fffn),
      unmap(1, 0x3000n, 0x7fffn),
      map(1, 0x4000n, 0x4fffn),
    ],
    ...[unmap(1, 0n, END), unmap(1, 0x4000n, END), unmap(1, 0n, END - 1n), map(1, 0x1000n, 0x1fffn)],
  ],
  [
    ...[attach(1, RNG), map(1, 0x2000n, 0x2fffn), unmap(1, 0x2001n, 0x2ffen), unmap(1, 0x2000n, 0x2ffen)],
    ...[unmap(1, 0x2001n, 0x3000n), unmap(1, 0x1001n, 0x3ffen), map(1, 0x2000n, 0x2fffn)],
    ...[unmap(1, 0x3000n, 0x2fffn), unmap(1, 0x1ffen, 0x1001n), unmap(1, END, END), unmap(1, 0n, 0n)],
  ],
  [
    ...[
      attach(1, RNG),
      map(1, 0x1001n, 0x1ffen),
      map(1, 0x1000n, 0x1ffen),
      map(1, 0x1000n, 0x1fffn, 0x80_0001n),
    ],
    ...[map(1, 0x2000n, 0x1fffn), map(1, 0x3000n, 0x1fffn), map(1, 0n, END, 0n), map(1, END - 0xfffn, END)],
    ...[map(1, END - 0x1fffn, END - 0x1000n), map(1, 0x1000n, 0x1fffn, END - 0xfffn)],
    ...[map(1, 0x1000n, 0x1fffn, END - 0x1fffn), map(1, 0x4000n, 0x5fffn, END - 0x1fffn)],
    ...[map(1, 0xfee0_0000n, 0xfee0_0fffn), map(1, 0x9000n, 0x9fffn, 0n, 0), map(1, 0xa000n, 0xafffn, 0n, 4)],
    ...[map(1, 0xb000n, 0xbfffn, 0n, 8), map(1, 0xb000n, 0xbffen, 0n, 8)],
  ],
  [
    ...[
      map(7, 0x1000n, 0x1fffn),
      map(7, 0x1000n, 0x1ffen),
      map(7, 0x1000n, 0x1fffn, 0n, 8),
      unmap(7, 0n, 0xfffn),
    ],
    ...[unmap(7, 0x2000n, 0x1fffn), detach(7, RNG), attach(1, RNG), detach(1, 999)],
    ...[map(1, 0x1000n, 0x1fffn), detach(1, RNG), map(1, 0x1000n, 0x1fffn), attach(0xffff_ffff, RNG)],
  ],
  [
    ...[attach(1, RNG, 1), map(1, 0x1000n, 0x1fffn), map(1, 0x1000n, 0x1ffen), unmap(1, 0x1000n, 0x1fffn)],
    ...[attach(1, RNG), attach(1, BALLOON), attach(1, BALLOON, 1), attach(2, BALLOON), attach(2, RNG, 1)],
    ...[attach(2, RNG), attach(3, RNG, 2), attach(3, RNG, 0xfe)],
  ],
  [
    ...[
      attach(1, RNG),
      attach(1, BALLOON),
      map(1, 0x1000n, 0x1fffn),
      detach(1, RNG),
      map(1, 0x1000n, 0x1fffn),
    ],
    ...[detach(1, BALLOON), attach(1, BALLOON), map(1, 0x1000n, 0x1fffn), attach(2, BALLOON)],
    ...[map(1, 0x2000n, 0x2fffn), map(2, 0x1000n, 0x1fffn), attach(1, BALLOON), map(1, 0x1000n, 0x1fffn)],
  ],
  [
    send("unknown type", { send: requestBytes(9, 0, 0, 0, 0) }, tail),
    send("type 0", { send: requestBytes(0, 0, 0, 0, 0) }, tail),
    send("short attach", { send: requestBytes(1, 0, 0, 0) }, tail),
    send("long attach", { send: requestBytes(1, 1, RNG, 0, 0, 0) }, tail),
    send("reserved word of an attach", { send: requestBytes(1, 1, RNG, 0, 77) }, tail),
    send("reserved bytes of a head", { send: requestBytes(0x0909_0901, 1, RNG, 0, 0) }, tail),
    send("short map", { send: requestBytes(3, 0, 0, 0) }, tail),
    send("long map", { send: requestBytes(3, 1, 0x1000n, 0x1fffn, 0n, 3, 0) }, tail),
    send("reserved word of an unmap", { send: requestBytes(4, 1, 0x1000n, 0x1fffn, 5) }, tail),
    send("reserved words of a detach", { send: requestBytes(2, 1, RNG, 5n) }, tail),
    send("long answer", { send: requestBytes(1, 1, RNG, 0, 0) }, { receive: 8 }),
    send("short answer", { send: requestBytes(1, 1, RNG, 0, 0) }, { receive: 3 }),
    send("no answer", { send: requestBytes(1, 1, RNG, 0, 0) }),
    send("only an answer", tail),
    send("short head", { send: new Uint8Array(3) }, tail),
    send("probe", { send: requestBytes(5, RNG, ...Array(8).fill(0n)) }, { receive: 28 }),
    send("probe of nothing", { send: requestBytes(5, 999, ...Array(8).fill(7n)) }, { receive: 28 }),
    send("probe, long answer", { send: requestBytes(5, RNG, ...Array(8).fill(0n)) }, { receive: 100 }),
    send("probe, short answer", { send: requestBytes(5, RNG, ...Array(8).fill(0n)) }, { receive: 27 }),
    send("short probe", { send: requestBytes(5, RNG) }, { receive: 28 }),
  ],
];

const NARROW: readonly Step[] = [
  ...[attach(1, RNG), map(1, 0xff_ffff_f000n, 0xff_ffff_ffffn), map(1, 0xff_ffff_e000n, 0x100_0000_0fffn)],
  ...[map(1, 0x100_0000_0000n, 0x100_0000_0fffn), map(9, 0x100_0000_0000n, 0x100_0000_0fffn)],
  ...[unmap(1, 0x100_0000_0000n, 0x100_0000_0fffn), unmap(9, 0x100_0000_0000n, 0x100_0000_0fffn)],
  ...[unmap(1, 0n, END), unmap(1, 0n, 0xff_ffff_ffffn), map(1, 0xff_ffff_f000n, 0xff_ffff_ffffn)],
];

const ARGS = ["--rng", "src=/dev/urandom,iommu=on", "--balloon", "size=0,iommu=on"];

/** Plays scripts, each on a fresh machine. */
async function statusesOf(
  program: ProgramName,
  scripts: readonly (readonly Step[])[],
  args: string[] = [],
): Promise<string[]> {
  const lines: string[] = [];
  for (const script of scripts) {
    await using puppet = await Puppet.make();
    await using vm = await Vm.start({ program, args: [...puppet.args(), ...ARGS, ...args] });
    await puppet.started();
    const iommu = await IommuDriver.start(new DriverMemory(puppet));
    lines.push(`features ${hex(iommu.device.features)}`);
    for (const [what, run] of script) lines.push(`${what}: ${await run(iommu)}`);
    await vm.stop();
  }
  return lines;
}

testWith(NEEDS, "requests to the virtual IOMMU have the original's statuses", async () => {
  const [ours, theirs] = await Promise.all([
    statusesOf("nephos", SCRIPTS),
    statusesOf("reference", SCRIPTS),
  ]);
  assert.deepEqual(ours, theirs);
});

testWith(NEEDS, "a narrow virtual IOMMU refuses what the original's refuses", async () => {
  const args = ["--platform", "iommu_address_width=40"];
  const ours = await statusesOf("nephos", [NARROW], args);
  assert.deepEqual(ours, await statusesOf("reference", [NARROW], args));
});

/** Features of every device behind the IOMMU, by virtio device id. */
async function featuresOf(program: ProgramName, disk: string, netns: string): Promise<string[]> {
  await using puppet = await Puppet.make();
  await using vm = await Vm.start({
    program,
    netns,
    args: [
      ...puppet.args().filter((argument, index, all) =>
        argument !== "--console" && all[index - 1] !== "--console"
      ),
      ...["--console", "null,iommu=on", "--rng", "src=/dev/urandom,iommu=on", "--watchdog"],
      ...["--disk", `path=${disk},image_type=raw,iommu=on`, "--net", "tap=tap0,iommu=on"],
      ...["--balloon", "size=0,iommu=on", "--rtc", "id=clock,iommu=on"],
      ...[
        "--pmem",
        `file=${disk},discard_writes=on,iommu=on`,
        "--vsock",
        "cid=3,socket={dir}/vsock,iommu=on",
      ],
    ],
  });
  await puppet.started();
  const memory = new DriverMemory(puppet);
  const lines = [];
  for (const id of [1, 2, 3, 4, 5, 17, 19, 23, 27, 35]) {
    const { features, slot } = await VirtioDriver.start(memory, id);
    lines.push(`device ${id} in slot ${slot}: ${hex(features)}`);
  }
  await vm.stop();
  return lines;
}

testWith(
  { ...NEEDS, root: true, commands: ["ip"] },
  "devices behind the virtual IOMMU offer what the original's offer",
  async () => {
    await using network = await NetworkNamespace.create();
    await network.addTap("tap0");
    await using disk = await TempDisk.empty(2 * MIB);
    const ours = await featuresOf("nephos", disk.path, network.name);
    assert.deepEqual(ours, await featuresOf("reference", disk.path, network.name));
  },
);

/** Answers to adding devices with and without `iommu`, to segments behind the IOMMU and others. */
async function hotplugAnswers(program: ProgramName): Promise<string[]> {
  await using puppet = await Puppet.make();
  await using disk = await TempDisk.empty(2 * MIB);
  const platform = ["--platform", "num_pci_segments=2,iommu_segments=[1]", "--cpus", HOTPLUG_CPUS];
  await using vm = await Vm.start({ program, args: [...puppet.args(), ...platform] });
  await puppet.started();
  const lines = [];
  for (const segment of [0, 1]) {
    for (const iommu of [false, true]) {
      const devices: [string, Record<string, unknown>][] = [
        ["disk", { path: disk.path, image_type: "Raw" }],
        ["pmem", { file: disk.path }],
        ["vsock", { cid: 3, socket: join(disk.directory, `vsock.${segment}.${iommu}`) }],
      ];
      for (const [kind, device] of devices) {
        const config = { ...device, pci_segment: segment, iommu };
        const { status, body } = await vm.api.put(`vm.add-${kind}`, config);
        lines.push(
          `${kind}, segment ${segment}, iommu ${iommu}: ${status} ${body.replaceAll(disk.directory, "dir")}`,
        );
        if (status === 200) await vm.api.put("vm.remove-device", { id: JSON.parse(body).id });
      }
    }
  }
  return lines;
}

testWith(NEEDS, "devices come behind the virtual IOMMU where the original lets them", async () => {
  assert.deepEqual(await hotplugAnswers("nephos"), await hotplugAnswers("reference"));
});

/** Guest memory: sizes, the hole below 4 GiB, how it is backed, and what cannot be had. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type Command, Puppet } from "@tests/framework/puppet.ts";
import { HALT, pvhElf } from "@tests/framework/tiny_guest.ts";
import { TempDisk } from "@tests/framework/images.ts";
import { eventually } from "@tests/framework/deadline.ts";
import type { Vm } from "@tests/framework/vm.ts";
import { betterTest, guestTest, IS_REFERENCE, startVm } from "./subject.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const ALL_ONES = 0xffff_ffff;

/** The little-endian word at an offset of the memory file. */
async function word(puppet: Puppet, offset: number): Promise<number> {
  return new DataView((await puppet.readMemory(offset, 4)).buffer).getUint32(0, true);
}

/** Start addresses of RAM and how much of it lies there. */
function ramOf(sizeBytes: number): { gpa: number; sizeBytes: number; fileOffset: number }[] {
  const low = Math.min(sizeBytes, 3 * GIB);
  const high = sizeBytes - low;
  return [
    { gpa: 0, sizeBytes: low, fileOffset: 0 },
    ...(high > 0 ? [{ gpa: 4 * GIB, sizeBytes: high, fileOffset: low }] : []),
  ];
}

for (const sizeMib of [64, 1024, 3072, 3074, 6144, 16384]) {
  const sizeBytes = sizeMib * MIB;
  guestTest(`${sizeMib} MiB: every end of RAM works, and nothing lies behind it`, async () => {
    await using puppet = await Puppet.make(sizeBytes);
    await using vm = await startVm({ args: puppet.args() });
    await puppet.started();
    assert.equal((await vm.api.info()).memory_actual_size, sizeBytes);
    let value = 0x1234_5600;
    for (const { gpa, sizeBytes: size, fileOffset } of ramOf(sizeBytes)) {
      const last = size - 4;
      // The window must not be used to reach what lies under it.
      for (const offset of [gpa === 0 ? 32 * MIB : 0, last]) {
        const address = await puppet.map(gpa + offset);
        const [, read] = await puppet.run(["writel", address, ++value], ["readl", address]);
        assert.equal(read, value, `at 0x${(gpa + offset).toString(16)}`);
        assert.equal(await word(puppet, fileOffset + offset), value, `file at ${fileOffset + offset}`);
      }
      const behind = await puppet.map(gpa + size);
      const found = await puppet.run(["readl", behind], ["writel", behind, 1], ["readl", behind]);
      assert.deepEqual(found, [ALL_ONES, 0, ALL_ONES], `behind 0x${(gpa + size).toString(16)}`);
    }
    // Untouched memory costs nothing.
    const { blocks } = await puppet.memory.stat();
    assert.ok(blocks! * 512 < 8 * MIB, `${blocks} blocks of the memory file are in use`);
    assert.ok(await vm.memoryKib("Pss_Shmem") < 8 * 1024);
  });
}

/** Starts a VM with `memory` and a guest that halts; returns when the guest has run. */
async function withMemory(memory: string[], look: (vm: Vm) => Promise<void>): Promise<void> {
  await using puppet = await Puppet.make();
  await Deno.writeFile(puppet.kernel, pvhElf(HALT));
  await using vm = await startVm({
    args: [
      ...["--kernel", puppet.kernel, "--console", "off", "--serial", "file={dir}/serial"],
      ...["--memory", ...memory],
    ],
  });
  const serial = join(vm.directory, "serial");
  await eventually("the guest's letter", async () => await Deno.readTextFile(serial).catch(() => "") === "U");
  await look(vm);
}

/** The mapping that holds all of guest memory: its line in `smaps` and the fields behind it. */
async function ramMapping(vm: Vm, sizeBytes: number): Promise<string> {
  const text = await Deno.readTextFile(`/proc/${vm.pid}/smaps`);
  const parts = text.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const found = parts.filter((part) => {
    const [start, end] = part.split(" ")[0].split("-").map((edge) => parseInt(edge, 16));
    return end - start >= sizeBytes && end - start < sizeBytes + 4 * MIB &&
      / rw-[ps] /.test(part.split("\n")[0]);
  });
  assert.equal(found.length, 1, found.map((part) => part.split("\n")[0]).join("\n"));
  return found[0];
}

function rssKib(mapping: string): number {
  return Number(/^Rss:\s+(\d+) kB/m.exec(mapping)![1]);
}

guestTest("memory is anonymous, private and not there until it is touched", async () => {
  await withMemory(["size=16G"], async (vm) => {
    assert.equal((await vm.api.info()).memory_actual_size, 16 * GIB);
    assert.ok(await vm.memoryKib("Rss") < 512 * 1024);
  });
  await withMemory(["size=192M"], async (vm) => {
    const mapping = await ramMapping(vm, 192 * MIB);
    assert.match(mapping, / rw-p /);
    assert.ok(rssKib(mapping) < 8 * 1024, mapping);
  });
});

guestTest("shared memory is a shared mapping of a memory file", async () => {
  await withMemory(["size=192M,shared=on"], async (vm) => {
    assert.match(await ramMapping(vm, 192 * MIB), / rw-s .*\/memfd:ch_ram/);
  });
});

guestTest("prefault=on makes all memory resident", async () => {
  await withMemory(["size=192M,prefault=on"], async (vm) => {
    assert.ok(rssKib(await ramMapping(vm, 192 * MIB)) >= 192 * 1024);
  });
});

guestTest("host_numa_node binds a zone's memory to the node", async () => {
  await withMemory(["size=0", "--memory-zone", "id=a,size=192M,host_numa_node=0"], async (vm) => {
    // A kernel without NUMA has no such file.
    const maps = await Deno.readTextFile(`/proc/${vm.pid}/numa_maps`).catch(() => undefined);
    if (maps === undefined) return;
    const [start] = (await ramMapping(vm, 192 * MIB)).split("-");
    assert.match(maps.split("\n").find((line) => line.startsWith(`${start} `)) ?? "", / bind:0 /);
  });
});

guestTest("thp and mergeable advise the kernel", async () => {
  const flags = (mapping: string) => /^VmFlags: (.*)$/m.exec(mapping)![1].trim().split(" ");
  await withMemory(["size=192M"], async (vm) => {
    assert.ok(flags(await ramMapping(vm, 192 * MIB)).includes("hg"));
  });
  await withMemory(["size=192M,thp=off,mergeable=on"], async (vm) => {
    const found = flags(await ramMapping(vm, 192 * MIB));
    assert.ok(!found.includes("hg"));
    // A kernel without KSM refuses the advice, which costs nothing but the saving.
    const hasKsm = await Deno.stat("/sys/kernel/mm/ksm").then(() => true, () => false);
    assert.equal(found.includes("mg"), hasKsm);
  });
});

guestTest("memory in two zones: one anonymous, one in a file", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({
    // The last of the arguments is the first zone: one option takes several values.
    args: [...puppet.args(), "id=more,size=64M"],
  });
  await puppet.started();
  assert.equal((await vm.api.info()).memory_actual_size, 128 * MIB);
  const other = 100 * MIB;
  const commands: Command[] = [["writel", other, 77], ["readl", other], ["readl", 128 * MIB]];
  assert.deepEqual(await puppet.run(...commands), [0, 77, ALL_ONES]);
});

interface Refusal {
  name: string;
  memory: string[];
  config: Record<string, unknown>;
  /** The chain below "The VM could not boot", of both programs if `better` is not there. */
  original: string[];
  /** What Nephos says instead. */
  better?: RegExp;
  /** What the command line says, if it finds out before. */
  line?: string;
}

/** Passes when a memory configuration is refused as described, by command line (exit 1) and by REST at `vm.boot`. */
async function checkRefusal({ memory, config, original, better, line: said }: Refusal): Promise<void> {
  await using puppet = await Puppet.make();
  await using line = await startVm({
    api: false,
    args: ["--kernel", puppet.kernel, "--console", "off", "--memory", ...memory],
  });
  assert.deepEqual(await line.waitForExit(), { code: 1, signal: null });
  await using vm = await startVm();
  const { kernel } = puppet;
  await vm.api.mustPut("vm.create", { payload: { kernel }, memory: config, console: { mode: "Off" } });
  const response = await vm.api.put("vm.boot");
  assert.ok([400, 500].includes(response.status), response.body);
  const chain = response.json<string[]>();
  if (better && !IS_REFERENCE) assert.match(chain.join("\n"), better);
  else assert.deepEqual(chain.slice(2, 2 + original.length), original); // Nephos may say more behind it.
  assert.deepEqual(chain.slice(0, 2), ["Error from API", "The VM could not boot"]);
  for (const message of said === undefined ? chain.slice(2) : [said]) {
    assert.ok(line.stderr.text.includes(`: ${message}\n`), line.stderr.text);
  }
  // It can be deleted, and another VM made.
  assert.equal((await vm.api.info()).state, "Created");
  await vm.api.mustPut("vm.delete");
  await vm.api.mustPut("vm.create", puppet.config());
  await vm.api.mustPut("vm.boot");
}

const MISALIGNED = "Memory size is misaligned with default page size or its hugepage size";

const REFUSALS: Refusal[] = [
  {
    name: "huge pages of a size that does not exist",
    memory: ["size=64M,hugepages=on,hugepage_size=8M"],
    config: { size: 64 * MIB, hugepages: true, hugepage_size: 8 * MIB },
    original: ["Memory manager error", "Failed to create shared file", "No such device (os error 19)"],
  },
  {
    name: "less than a huge page",
    memory: ["size=64M,hugepages=on,hugepage_size=1G"],
    config: { size: 64 * MIB, hugepages: true, hugepage_size: GIB },
    original: ["Memory manager error", MISALIGNED],
  },
  {
    name: "a size that is not a number of pages",
    memory: ["size=67108865"],
    config: { size: 64 * MIB + 1 },
    original: ["Memory manager error", MISALIGNED],
  },
  {
    name: "no memory",
    memory: ["size=0"],
    config: { size: 0 },
    original: ["Memory manager error", "No memory zones found"],
  },
  {
    name: "both a size and zones",
    memory: ["size=64M", "--memory-zone", "id=a,size=64M"],
    config: { size: 64 * MIB, zones: [{ id: "a", size: 64 * MIB }] },
    original: ["Memory manager error", "Memory configuration is not valid"],
  },
  {
    name: "a zone twice",
    memory: ["size=0", "--memory-zone", "id=a,size=64M", "id=a,size=64M"],
    config: { size: 0, zones: [{ id: "a", size: 64 * MIB }, { id: "a", size: 64 * MIB }] },
    original: ["Memory manager error", "Memory zone identifier is not unique"],
    line: "Identifier a is not unique",
  },
  {
    name: "a hot-plug size of 0",
    memory: ["size=64M,hotplug_size=0"],
    config: { size: 64 * MIB, hotplug_size: 0 },
    original: ["Memory manager error", "Invalid size for resizing. Can be anything except 0"],
  },
  {
    name: "a directory for a zone file",
    memory: ["size=0", "--memory-zone", "id=a,size=64M,file=/tmp"],
    config: { size: 0, zones: [{ id: "a", size: 64 * MIB, file: "/tmp" }] },
    original: ["Memory manager error", "Using a directory as a backing file for memory is not supported"],
  },
  {
    name: "a zone file that is not there",
    memory: ["size=0", "--memory-zone", "id=a,size=64M,file=/tmp/nephos-no-such-file"],
    config: { size: 0, zones: [{ id: "a", size: 64 * MIB, file: "/tmp/nephos-no-such-file" }] },
    original: ["Memory manager error", "Failed to stat filesystem", "No such file or directory (os error 2)"],
  },
  {
    name: "a zone file in a directory that is not there",
    memory: ["size=0", "--memory-zone", "id=a,size=64M,file=/nonexistent/file"],
    config: { size: 0, zones: [{ id: "a", size: 64 * MIB, file: "/nonexistent/file" }] },
    original: ["Memory manager error", "Failed to stat filesystem", "No such file or directory (os error 2)"],
  },
];

for (const refusal of REFUSALS) guestTest(`refused: ${refusal.name}`, () => checkRefusal(refusal));

betterTest("refused: a zone file shorter than the zone, which stays as it is", "dies by SIGBUS", async () => {
  await using file = await TempDisk.pattern(MIB);
  const zone = `id=a,size=64M,file=${file.path}`;
  await checkRefusal({
    name: "",
    memory: ["size=0", "--memory-zone", zone],
    config: { size: 0, zones: [{ id: "a", size: 64 * MIB, file: file.path }] },
    original: [],
    better: /Memory zone file .* has 1048576 bytes, fewer than the 67108864 of the zone/,
  });
  assert.equal((await Deno.stat(file.path)).size, MIB);
});

betterTest("refused: more memory than the address space holds", "panics", () =>
  checkRefusal({
    name: "",
    memory: ["size=70368744177664"],
    config: { size: 2 ** 46 },
    original: [],
    better: /Memory manager error\n.*(address|memory)/is,
  }));

async function freeHugePages(kib: number): Promise<number> {
  const path = `/sys/kernel/mm/hugepages/hugepages-${kib}kB/free_hugepages`;
  return Number(await Deno.readTextFile(path).catch(() => "0"));
}

betterTest("refused: huge pages that are not there, by name", "is killed by SIGBUS", async () => {
  if (await freeHugePages(2048) >= 512) return; // This host has them.
  await checkRefusal({
    name: "",
    memory: ["size=1G,hugepages=on,hugepage_size=2M"],
    config: { size: GIB, hugepages: true, hugepage_size: 2 * MIB },
    original: [],
    better: /huge pages of 2048 KiB.*Cannot allocate memory \(os error 12\)/s,
  });
});

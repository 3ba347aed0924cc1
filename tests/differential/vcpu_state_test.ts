/**
 * What the original gives KVM for each vCPU: CPUID, general and special registers as strace shows them, MSRs and local
 * APIC pins as its snapshot keeps them.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { eventually } from "@tests/framework/deadline.ts";
import { programPath, testWith } from "@tests/framework/programs.ts";
import { Vm } from "@tests/framework/vm.ts";
import {
  APIC_LVT_LINT0,
  APIC_LVT_LINT1,
  BOOT_MSRS,
  bootLvt,
  bootRegs,
  bootSregs,
  type SegmentState,
} from "@vmm/arch/x86_64/boot_cpu.ts";
import { commonCpuid, type CpuidEntry, cpuVendor } from "@vmm/arch/x86_64/cpuid.ts";
import { brandLeaves } from "@vmm/arch/x86_64/testing/brand_leaves.ts";
import { vcpuCpuid } from "@vmm/arch/x86_64/cpuid_vcpu.ts";
import { guestPhysBits } from "@vmm/arch/x86_64/layout.ts";
import { LOAD_ADDRESS, tinyBzImage, tinyElf } from "@vmm/arch/x86_64/loader/testing/tiny_kernels.ts";
import { needsX2apicMode, resolveTopology } from "@vmm/arch/x86_64/topology.ts";

/** Pins as KVM resets them, which is what KVM_GET_LAPIC gives for a new vCPU: masked, but for LINT0 of the first. */
const KVM_RESET_LINT = 0x1_0000;
const KVM_RESET_LINT0_BSP = 0x700;

/** `jmp .`: the instruction pointer stays where it was set. */
const STAY = [0xeb, 0xfe];

interface Traced {
  supported: CpuidEntry[];
  vcpus: CpuidEntry[][];
  regs: Record<string, number>[];
  sregs: string[];
  tscKhz: number;
}

function entriesOf(line: string): CpuidEntry[] {
  const pattern =
    /\{function=([^,]+), index=([^,]+), flags=([^,]+), eax=([^,]+), ebx=([^,]+), ecx=([^,]+), edx=([^,}]+)/g;
  return [...line.matchAll(pattern)].map(([, fn, index, flags, ...registers]) => {
    const [eax, ebx, ecx, edx] = registers.map(Number);
    const significant = flags.includes("SIGNIFCANT_INDEX") ? 1 : Number(flags);
    return { function: Number(fn), index: Number(index), flags: significant, eax, ebx, ecx, edx };
  });
}

function numbersOf(text: string): Record<string, number> {
  return Object.fromEntries(
    [...text.matchAll(/(\w+)=(0x[0-9a-f]+|\d+)/g)].map(([, key, value]) => [key, Number(value)]),
  );
}

/** Starts the original under strace until all vCPUs run, and reads the calls. */
async function trace(kernel: Uint8Array, cpus: string, count: number): Promise<Traced> {
  const directory = await Deno.makeTempDir({ prefix: "vcpu-state-" });
  try {
    await Deno.writeFile(join(directory, "kernel"), kernel);
    const log = join(directory, "log");
    const child = new Deno.Command("strace", {
      args: [
        ...["-f", "-v", "-s", "65536", "-e", "trace=ioctl", "-o", log, programPath("reference")!],
        ...["--kernel", join(directory, "kernel"), "--cpus", cpus, "--memory", "size=128M"],
        ...["--console", "off", "--serial", "null", "--seccomp", "false"],
      ],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    const calls = (text: string, name: string) =>
      text.split("\n").filter((line) => line.includes(`, ${name}, `) && !line.includes("E2BIG"));
    let text = "";
    await eventually("the calls that set up the vCPUs", async () => {
      text = await Deno.readTextFile(log).catch(() => "");
      return calls(text, "KVM_SET_LAPIC").filter((line) => line.endsWith("= 0")).length >= count;
    });
    // The tracee ends with the tracer only if it is told to.
    for (const pid of new Set(text.split("\n").map((line) => parseInt(line)))) {
      if (pid > 0) {
        try {
          Deno.kill(pid, "SIGKILL");
        } catch { /* a thread that is gone */ }
      }
    }
    await child.status;
    const supported = calls(text, "KVM_GET_SUPPORTED_CPUID").map(entriesOf).find((entries) =>
      entries.length > 0
    )!;
    return {
      supported,
      vcpus: calls(text, "KVM_SET_CPUID2").map(entriesOf),
      regs: calls(text, "KVM_SET_REGS").map((line) => numbersOf(line.slice(line.indexOf("{")))),
      sregs: calls(text, "KVM_SET_SREGS"),
      tscKhz: Number(/KVM_GET_TSC_KHZ.*= (\d+)/.exec(text)![1]),
    };
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

function cpuinfo(field: RegExp): string {
  return field.exec(Deno.readTextFileSync("/proc/cpuinfo"))![1];
}

const row = (e: CpuidEntry) =>
  [e.function, e.index, e.flags, e.eax, e.ebx, e.ecx, e.edx].map((word) => word.toString(16)).join(" ");

const CASES: {
  cpus: string;
  boot: number;
  topology?: [number, number, number, number];
  nested?: boolean;
  bits?: number;
}[] = [
  { cpus: "boot=1", boot: 1 },
  { cpus: "boot=3,max=8", boot: 3 },
  { cpus: "boot=8,topology=2:2:1:2", boot: 8, topology: [2, 2, 1, 2] },
  { cpus: "boot=3,max=16,topology=2:2:2:2", boot: 3, topology: [2, 2, 2, 2] },
  { cpus: "boot=2,nested=off,max_phys_bits=40", boot: 2, nested: false, bits: 40 },
];

const straced = { kvm: true, root: true, reference: true, commands: ["strace"] };

for (const test of CASES) {
  testWith(straced, `CPUID with ${test.cpus} equals the original's`, async () => {
    const seen = await trace(tinyElf(), test.cpus, test.boot);
    const shape = test.topology;
    const topology = resolveTopology(
      shape &&
        { threadsPerCore: shape[0], coresPerDie: shape[1], diesPerPackage: shape[2], packages: shape[3] },
      test.boot,
    );
    const hostBits = Number(cpuinfo(/^address sizes\s*: (\d+) bits physical/m));
    const common = commonCpuid(
      seen.supported,
      { brand: brandLeaves(cpuinfo(/^model name\s*: (.*)$/m)) },
      { physBits: guestPhysBits(hostBits, test.bits ?? 46) },
    );
    assert.equal(seen.vcpus.length, test.boot);
    seen.vcpus.forEach((entries, cpu) => {
      const ours = vcpuCpuid(common, {
        cpu,
        topology,
        vendor: cpuVendor(seen.supported),
        nested: test.nested ?? true,
        tscKhz: seen.tscKhz,
      });
      assert.deepEqual(ours.map(row), entries.map(row), `vCPU ${cpu}`);
    });
  });
}

function describe(name: string, state: SegmentState): string {
  const { base, limit, selector, type, present, dpl, db, s, l, g, avl } = state;
  return `${name}={base=${base}, limit=${limit}, selector=${selector}, type=${type}, present=${present}, dpl=${dpl}, ` +
    `db=${db}, s=${s}, l=${l}, g=${g}, avl=${avl}}`;
}

for (
  const { name, kernel, entry, cpus, count } of [
    { name: "PVH", kernel: tinyElf(), entry: { kind: "pvh", rip: LOAD_ADDRESS }, cpus: "boot=2", count: 2 },
    {
      name: "Linux",
      kernel: tinyBzImage(),
      entry: { kind: "linux32", rip: 0x10_0000 },
      cpus: "boot=1",
      count: 1,
    },
    {
      name: "x2APIC",
      kernel: tinyElf(),
      entry: { kind: "pvh", rip: LOAD_ADDRESS },
      cpus: "boot=256",
      count: 256,
    },
  ] as const
) {
  testWith(straced, `registers at a ${name} entry equal the original's`, async () => {
    const seen = await trace(kernel, cpus, count);
    assert.equal(seen.regs.length, count);
    const regs = bootRegs(entry);
    const ours: Record<string, number> = { ...regs };
    for (const key of Object.keys(seen.regs[0])) ours[key] ??= 0;
    const sregs = bootSregs(needsX2apicMode(count, resolveTopology(undefined, count)));
    seen.regs.forEach((theirs, cpu) => {
      assert.deepEqual(theirs, ours, `vCPU ${cpu}`);
      const line = seen.sregs[cpu];
      for (const segment of ["cs", "ds", "es", "fs", "gs", "ss", "tr"] as const) {
        assert.ok(line.includes(describe(segment, sregs[segment])), `${segment} of vCPU ${cpu}: ${line}`);
      }
      const tables = `gdt={base=0x${sregs.gdt.base.toString(16)}, limit=${sregs.gdt.limit}}, ` +
        `idt={base=0x${sregs.idt.base.toString(16)}, limit=${sregs.idt.limit}}`;
      assert.ok(line.includes(tables), line);
      const control = numbersOf(line.slice(line.indexOf("cr0=")));
      assert.deepEqual([control.cr0, control.cr4, control.efer], [sregs.cr0, sregs.cr4, sregs.efer]);
      const bootstrap = cpu === 0 ? 0x100 : 0;
      assert.equal(control.apic_base, 0xfee0_0800 + bootstrap + sregs.apicBaseBits, `vCPU ${cpu}`);
    });
  });
}

testWith({ kvm: true, reference: true }, "MSRs and local APIC pins equal the original's", async () => {
  const directory = await Deno.makeTempDir({ prefix: "vcpu-state-" });
  try {
    await Deno.writeFile(join(directory, "kernel"), tinyElf({ code: STAY }));
    await Deno.mkdir(join(directory, "snapshot"));
    await using vm = await Vm.start({
      program: "reference",
      args: [
        ...["--kernel", join(directory, "kernel"), "--cpus", "boot=2", "--memory", "size=128M,shared=on"],
        ...["--console", "off", "--serial", "null"],
      ],
    });
    await eventually("a running VM", async () => await vm.api.state() === "Running");
    await vm.api.mustPut("vm.pause");
    await vm.api.mustPut("vm.snapshot", { destination_url: `file://${join(directory, "snapshot")}` });
    const root = JSON.parse(await Deno.readTextFile(join(directory, "snapshot", "state.json")));
    for (const cpu of ["0", "1"]) {
      const state = JSON.parse(root.snapshots["cpu-manager"].snapshots[cpu].snapshot_data.state).Kvm;
      const msrs = new Map<number, number>(
        state.msrs.map((msr: { index: number; data: number }) => [msr.index, msr.data]),
      );
      for (const msr of BOOT_MSRS) {
        if (msr.name === "IA32_TSC") continue; // it counts
        assert.equal(msrs.get(msr.index), Number(msr.value), `${msr.name} of vCPU ${cpu}`);
      }
      const lapic = new DataView(Uint8Array.from(state.lapic_state.regs).buffer);
      const pins = {
        lint0: lapic.getUint32(APIC_LVT_LINT0, true),
        lint1: lapic.getUint32(APIC_LVT_LINT1, true),
      };
      assert.deepEqual(pins, bootLvt(cpu === "0" ? KVM_RESET_LINT0_BSP : KVM_RESET_LINT, KVM_RESET_LINT));
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

import assert from "node:assert/strict";
import { commonCpuid, type CpuidEntry, type CpuidRegisters, cpuVendor } from "./cpuid.ts";
import { brandLeaves } from "./testing/brand_leaves.ts";
import { vcpuCpuid } from "./cpuid_vcpu.ts";
import { resolveTopology } from "./topology.ts";

const entry = (
  fn: number,
  index: number,
  registers: Partial<CpuidRegisters> = {},
  flags = 0,
): CpuidEntry => ({
  function: fn,
  index,
  flags,
  eax: 0,
  ebx: 0,
  ecx: 0,
  edx: 0,
  ...registers,
});
const brand = brandLeaves("Test CPU");
const find = (entries: readonly CpuidEntry[], fn: number, index = 0) => {
  const found = entries.filter((e) => e.function === fn && e.index === index);
  assert.equal(found.length, 1, `leaf 0x${fn.toString(16)}.${index} appears ${found.length} times`);
  return found[0];
};
const topology = (t: number, c: number, d: number, p: number) => ({
  threadsPerCore: t,
  coresPerDie: c,
  diesPerPackage: d,
  packages: p,
});

Deno.test("commonCpuid() sets hypervisor, TSC deadline, MTRR, address bits and MSI destinations", () => {
  const entries = commonCpuid(
    [
      entry(1, 0, { ebx: 0x0102_0800 }),
      entry(0x8000_0008, 0, { eax: 0x0034_3039 }),
      entry(0x4000_0001, 0, { eax: 1 }),
    ],
    { brand },
    { physBits: 46 },
  );
  assert.deepEqual(find(entries, 1), entry(1, 0, { ebx: 0x0002_0800, ecx: 0x8100_0000, edx: 0x1000 }));
  assert.equal(find(entries, 0x8000_0008).eax, 0x002e_302e);
  assert.equal(find(entries, 0x4000_0001).eax, 0x8001);
});

Deno.test("commonCpuid() replaces the brand string at the end of the list", () => {
  const entries = commonCpuid([entry(0x8000_0003, 0, { eax: 1 }), entry(1, 0)], { brand }, { physBits: 46 });
  assert.deepEqual(entries.map((e) => e.function), [1, 0x8000_0002, 0x8000_0003, 0x8000_0004]);
  assert.equal(entries[1].eax, 0x7473_6554);
  assert.equal(entries[2].eax, 0);
});

Deno.test("brandLeaves() keeps a terminating zero", () => {
  assert.equal(brandLeaves("x".repeat(60))[2].edx, 0x0078_7878);
});

Deno.test("commonCpuid() hides AMX unless asked for", () => {
  const supported = [
    entry(7, 0, { edx: 0xffff_ffff }, 1),
    entry(7, 1, { eax: 0xffff_ffff, edx: 0xffff_ffff }, 1),
    entry(0x1d, 0, { eax: 1 }, 1),
    entry(0x1e, 0, { ebx: 2 }, 1),
  ];
  const without = commonCpuid(supported, { brand }, { physBits: 46 });
  assert.equal(find(without, 7, 0).edx, 0xfcbf_ffff);
  assert.equal(find(without, 7, 1).eax, 0xffdf_ffff);
  assert.equal(find(without, 7, 1).edx, 0xffff_feff);
  assert.equal(find(without, 0x1d).eax, 0);
  assert.equal(find(without, 0x1e).ebx, 0);
  const with_ = commonCpuid(supported, { brand }, { physBits: 46, amx: true });
  assert.deepEqual(with_.slice(0, 4), supported);
});

Deno.test("commonCpuid() takes cache leaves from the host only where KVM has none", () => {
  const l1Cache = { eax: 5, ebx: 6, ecx: 7, edx: 8 };
  const entries = commonCpuid(
    [entry(0x8000_0005, 0), entry(0x8000_0006, 0, { ecx: 9 })],
    { brand, l1Cache, l2Cache: l1Cache },
    { physBits: 46 },
  );
  assert.equal(find(entries, 0x8000_0005).edx, 8);
  assert.deepEqual(find(entries, 0x8000_0006), entry(0x8000_0006, 0, { ecx: 9 }));
});

Deno.test("commonCpuid() clears hidden features and nothing else", () => {
  const entries = commonCpuid(
    [entry(1, 0, { ecx: 0x2001 }), entry(0x4000_0001, 0, { eax: 0xffff })],
    { brand },
    {
      physBits: 46,
      hiddenFeatures: [
        { function: 1, index: 0, register: "ecx", bits: 1 << 13 },
        { function: 0x4000_0001, index: 0, register: "eax", bits: 0x80 },
      ],
    },
  );
  assert.equal(find(entries, 1).ecx, 0x8100_0001);
  assert.equal(find(entries, 0x4000_0001).eax, 0xff7f);
});

Deno.test("commonCpuid() presents Hyper-V instead of KVM", () => {
  const entries = commonCpuid(
    [entry(0x4000_0000, 0, { eax: 0x4000_0001 }), entry(0x4000_0001, 0), entry(1, 0)],
    { brand },
    { physBits: 46, kvmHyperv: true },
  );
  assert.deepEqual(
    entries.filter((e) => e.function < 0x8000_0000).map((e) => e.function),
    [1, ...Array.from({ length: 11 }, (_, i) => 0x4000_0000 + i)],
  );
  assert.deepEqual(
    find(entries, 0x4000_0000),
    entry(0x4000_0000, 0, { eax: 0x4000_000a, ebx: 0x756e694c, ecx: 0x564b2078, edx: 0x7648204d }),
  );
  assert.equal(find(entries, 0x4000_0003).eax, 0xa7f);
  assert.equal(find(entries, 0x4000_0003).edx, 0x118);
  assert.equal(find(entries, 0x4000_0004).eax, 0x62e);
  const vcpu = vcpuCpuid(entries, {
    cpu: 0,
    topology: topology(1, 1, 1, 1),
    vendor: "Intel",
    nested: true,
    kvmHyperv: true,
    tscKhz: 1000,
  });
  assert.equal(find(vcpu, 0x4000_0000).eax, 0x4000_000a);
  assert.equal(vcpu.some((e) => e.function === 0x4000_0010), false);
});

Deno.test("vcpuCpuid() limits Intel cache sharing to a die and rewrites the core count", () => {
  const cache = (index: number, type: number, sharing: number, cores: number) =>
    entry(4, index, { eax: ((cores << 26) | (sharing << 14) | 0x100 | type) >>> 0 }, 1);
  const entries = vcpuCpuid([entry(1, 0), cache(0, 1, 1, 0x2b), cache(1, 3, 0xff, 0x2b), cache(2, 0, 0, 0)], {
    cpu: 0,
    topology: topology(2, 60, 1, 2),
    vendor: "Intel",
    nested: true,
  });
  assert.equal(find(entries, 4, 0).eax, cache(0, 1, 1, 63).eax);
  assert.equal(find(entries, 4, 1).eax, cache(1, 3, 127, 63).eax);
  assert.equal(find(entries, 4, 2).eax, cache(2, 0, 0, 0).eax);
});

Deno.test("vcpuCpuid() takes nested virtualisation away", () => {
  const common = [entry(1, 0, { ecx: 0x21 }), entry(0x8000_0001, 0, { ecx: 0x5 })];
  const shape = { cpu: 0, topology: topology(1, 1, 1, 1), vendor: "Unknown" } as const;
  const off = vcpuCpuid(common, { ...shape, nested: false });
  assert.deepEqual([find(off, 1).ecx, find(off, 0x8000_0001).ecx], [1, 1]);
  const on = vcpuCpuid(common, { ...shape, nested: true });
  assert.deepEqual([find(on, 1).ecx, find(on, 0x8000_0001).ecx], [0x21, 5]);
});

Deno.test("vcpuCpuid() keeps the APIC id apart from a core count beyond 8 bits", () => {
  const entries = vcpuCpuid([entry(1, 0), entry(0x8000_0001, 0)], {
    cpu: 2,
    topology: resolveTopology(undefined, 300),
    vendor: "AMD",
    nested: true,
  });
  assert.equal(find(entries, 1).ebx, 0x022c_0800);
});

Deno.test("vcpuCpuid() leaves its input untouched", () => {
  const common = Object.freeze([Object.freeze(entry(1, 0))]);
  vcpuCpuid(common, { cpu: 1, topology: topology(1, 2, 1, 1), vendor: "AMD", nested: true, tscKhz: 1 });
  assert.deepEqual(common[0], entry(1, 0));
});

Deno.test("cpuVendor() reads the signature of leaf 0", () => {
  const leaf = { ebx: 0x6874_7541, edx: 0x6974_6e65, ecx: 0x444d_4163 };
  assert.equal(cpuVendor([entry(0, 0, leaf)]), "AMD");
  assert.equal(cpuVendor([entry(0, 0, { ebx: 0x756e_6547, edx: 0x4965_6e69, ecx: 0x6c65_746e })]), "Intel");
  assert.equal(cpuVendor([]), "Unknown");
});

interface Golden {
  brand: string;
  tscKhz: number;
  supported: string[];
  cases: {
    name: string;
    boot: number;
    topology?: [number, number, number, number];
    nested?: boolean;
    physBits?: number;
    vcpus: Record<string, string[]>;
  }[];
}

Deno.test("CPUID of an AMD host equals the golden file", () => {
  const path = new URL("../../../tests/golden/cpuid/amd_epyc.json", import.meta.url);
  const golden: Golden = JSON.parse(Deno.readTextFileSync(path));
  const supported = golden.supported.map((row): CpuidEntry => {
    const [fn, index, flags, eax, ebx, ecx, edx] = row.split(" ").map((word) => parseInt(word, 16));
    return { function: fn, index, flags, eax, ebx, ecx, edx };
  });
  const row = (e: CpuidEntry) =>
    [e.function, e.index, e.flags, e.eax, e.ebx, e.ecx, e.edx].map((word) => word.toString(16)).join(" ");
  for (const test of golden.cases) {
    const common = commonCpuid(supported, { brand: brandLeaves(golden.brand) }, {
      physBits: test.physBits ?? 46,
    });
    for (const [cpu, rows] of Object.entries(test.vcpus)) {
      const entries = vcpuCpuid(common, {
        cpu: Number(cpu),
        topology: resolveTopology(test.topology && topology(...test.topology), test.boot),
        vendor: cpuVendor(supported),
        nested: test.nested ?? true,
        tscKhz: golden.tscKhz,
      });
      assert.deepEqual(entries.map(row), rows, test.name);
    }
  }
});

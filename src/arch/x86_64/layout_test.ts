import assert from "node:assert/strict";
import {
  GIB,
  type MemoryPlanRequest,
  MIB,
  planControllers,
  planMemory,
  planSegments,
  RAM_64BIT_START,
} from "./layout.ts";
import { ArchError } from "./errors.ts";

const one = (sizeBytes: number, more: Partial<MemoryPlanRequest> = {}) =>
  planMemory({ zones: [{ id: "mem0", sizeBytes }], physBits: 46, ...more });
const spans = (ranges: readonly { gpa: number; sizeBytes: number }[]) =>
  ranges.map((r) => [r.gpa, r.sizeBytes]);

Deno.test("planMemory() starts the device window at 4 GiB while RAM ends at or below 3 GiB", () => {
  for (const size of [128 * MIB, 3 * GIB]) {
    const plan = one(size);
    assert.deepEqual(spans(plan.ramRegions), [[0, size]]);
    assert.deepEqual(plan.pciWindow64, { gpa: 0x1_0000_0000, sizeBytes: 0x3ffe_ffef_0000 });
    assert.deepEqual(plan.platformArea, { gpa: 0x3fff_ffef_0000, sizeBytes: MIB });
  }
});

Deno.test("planMemory() continues RAM at 4 GiB and does not align the window without hot-plug", () => {
  const plan = one(3073 * MIB);
  assert.deepEqual(spans(plan.ramRegions), [[0, 3 * GIB], [RAM_64BIT_START, MIB]]);
  assert.equal(plan.ramRegions[1].zoneOffsetBytes, 3 * GIB);
  assert.equal(plan.pciWindow64.gpa, 0x1_0010_0000);
});

Deno.test("planMemory() leaves a gap for DIMMs at the next 128 MiB boundary", () => {
  assert.equal(one(130 * MIB, { hotplugSizeBytes: 1000 * MIB }).pciWindow64.gpa, 0x1_3e80_0000);
  const plan = one(5001 * MIB, { hotplugSizeBytes: GIB });
  assert.deepEqual(plan.dimmArea, { gpa: 0x1_8000_0000, sizeBytes: GIB });
  assert.equal(plan.pciWindow64.gpa, 0x1_c000_0000);
  assert.equal(plan.acpiMemoryHotplug, true);
});

Deno.test("planMemory() keeps the controller but no gap for the user's own zones", () => {
  const plan = one(512 * MIB, { userZones: true, hotplugSizeBytes: GIB });
  assert.equal(plan.acpiMemoryHotplug, true);
  assert.equal(plan.dimmArea, undefined);
  assert.equal(plan.pciWindow64.gpa, RAM_64BIT_START);
});

Deno.test("planMemory() splits zones at the hole and lists virtio-mem regions behind RAM", () => {
  const plan = planMemory({
    zones: [
      { id: "a", sizeBytes: 2561 * MIB, hotplugSizeBytes: 512 * MIB },
      { id: "b", sizeBytes: GIB },
      { id: "c", sizeBytes: 65 * MIB, hotplugSizeBytes: GIB },
    ],
    hotplugMethod: "VirtioMem",
    physBits: 46,
  });
  assert.deepEqual(plan.ramRegions.map((r) => [r.zoneId, r.gpa, r.sizeBytes, r.zoneOffsetBytes]), [
    ["a", 0, 0xa010_0000, 0],
    ["b", 0xa010_0000, 0x1ff0_0000, 0],
    ["b", 0x1_0000_0000, 0x2010_0000, 0x1ff0_0000],
    ["c", 0x1_2010_0000, 65 * MIB, 0],
  ]);
  assert.deepEqual(plan.virtioMemRegions.map((r) => [r.zoneId, r.gpa]), [["a", 0x1_2800_0000], [
    "c",
    0x1_4800_0000,
  ]]);
  assert.equal(plan.pciWindow64.gpa, 0x1_8800_0000);
  assert.equal(plan.acpiMemoryHotplug, false);
});

Deno.test("planMemory() refuses an address space that ends below the devices, and bad sizes", () => {
  const layoutError = (error: unknown) => error instanceof ArchError && error.condition === "memory-layout";
  assert.throws(() => one(128 * MIB, { physBits: 32 }), layoutError);
  assert.throws(() => one(128 * MIB, { physBits: 36, hotplugSizeBytes: 100 * GIB }), layoutError);
  assert.throws(() => one(128 * MIB, { physBits: 60 }), layoutError);
  assert.throws(() => one(0), layoutError);
  assert.throws(() => one(1000), layoutError);
  assert.throws(() => planMemory({ zones: [], physBits: 46 }), layoutError);
});

Deno.test("planSegments() splits by weight and gives the remainder to the last segment", () => {
  const segments = planSegments(one(128 * MIB), [
    { mmio32: 1, mmio64: 1 },
    { mmio32: 3, mmio64: 5 },
    { mmio32: 1, mmio64: 1 },
  ]);
  assert.deepEqual(spans(segments.map((s) => s.window32)), [
    [0xc000_0000, 0x0800_0000],
    [0xc800_0000, 0x1800_0000],
    [0xe000_0000, 0x0800_0000],
  ]);
  assert.deepEqual(spans(segments.map((s) => s.window64)), [
    [0x1_0000_0000, 0x0924_0000_0000],
    [0x0925_0000_0000, 0x2db4_0000_0000],
    [0x36d9_0000_0000, 0x0926_ffef_0000],
  ]);
  assert.deepEqual(segments.map((s) => s.ecam.gpa), [0xe800_0000, 0xe810_0000, 0xe820_0000]);
});

Deno.test("planSegments() refuses windows that leave a segment without addresses", () => {
  const weights = Array.from({ length: 16 }, () => ({ mmio32: 1, mmio64: 1 }));
  assert.throws(() => planSegments(one(128 * MIB, { physBits: 36 }), weights), ArchError);
  assert.throws(() => planSegments(one(128 * MIB), []), ArchError);
  assert.throws(() => planSegments(one(128 * MIB), [{ mmio32: 0, mmio64: 1 }]), ArchError);
});

Deno.test("planControllers() allocates pages downwards, the memory controller first", () => {
  const plain = planControllers(one(128 * MIB));
  assert.equal(plain.memoryHotplug, undefined);
  assert.deepEqual(
    [plain.pciHotplug.gpa, plain.cpuHotplug.gpa, plain.genericEvent.gpa],
    [0x3fff_fffe_f000, 0x3fff_fffe_e000, 0x3fff_fffe_d000],
  );
  const hotplug = planControllers(one(128 * MIB, { hotplugSizeBytes: GIB }));
  assert.deepEqual(
    [hotplug.memoryHotplug?.gpa, hotplug.pciHotplug.gpa],
    [0x3fff_fffe_f000, 0x3fff_fffe_e000],
  );
});

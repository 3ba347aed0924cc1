import assert from "node:assert/strict";
import { VmConfigSchema } from "@schemas/api/vm_config.ts";
import { normalizeVmConfig } from "@schemas/normalize.ts";

const normalized = (value: object) => normalizeVmConfig(VmConfigSchema.parse(value));

Deno.test("normalizeVmConfig() drops command line and initramfs beside firmware", () => {
  const payload = { firmware: "f", cmdline: "c", initramfs: "i" };
  assert.deepEqual(normalized({ payload }).payload, { firmware: "f" });
  const kernel = { kernel: "k", cmdline: "c" };
  assert.deepEqual(normalized({ payload: kernel }).payload, kernel);
});

Deno.test("normalizeVmConfig() turns the IOMMU on for any device behind it", () => {
  const devices: readonly object[] = [
    { disks: [{}, { iommu: true }] },
    { net: [{ iommu: true }] },
    { pmem: [{ file: "f", iommu: true }] },
    { rng: { src: "r", iommu: true } },
    { rtc: { iommu: true } },
    { balloon: { size: 0n, iommu: true } },
    { console: { mode: "Off", iommu: true } },
    { vdpa: [{ path: "p", iommu: true }] },
    { devices: [{ path: "p", iommu: true }] },
    { vsock: { cid: 3, socket: "s", iommu: true } },
    { platform: { iommu_segments: [] } },
    { iommu: true },
  ];
  for (const value of devices) {
    assert.equal(normalized(value).iommu, true, JSON.stringify(Object.keys(value)));
  }
  assert.equal(normalized({ disks: [{}], platform: {} }).iommu, false);
});

Deno.test("normalizeVmConfig() leaves its argument alone", () => {
  const config = VmConfigSchema.parse({ payload: { firmware: "f", cmdline: "c" }, net: [{ iommu: true }] });
  normalizeVmConfig(config);
  assert.deepEqual([config.iommu, config.payload?.cmdline], [false, "c"]);
});

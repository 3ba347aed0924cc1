import assert from "node:assert/strict";
import { DiskConfigSchema } from "@schemas/api/disk.ts";
import { RateLimiterConfigSchema } from "@schemas/api/rate_limiter.ts";
import { VmCountersSchema, type VmInfo, VmInfoSchema, VmmPingResponseSchema } from "@schemas/api/vm_info.ts";
import { RngConfigSchema } from "@schemas/api/virtio_devices.ts";
import { VmConfigSchema } from "@schemas/api/vm_config.ts";
import { writeJson } from "@schemas/json/writer.ts";

Deno.test("writeJson() writes counters up to 2^64-1 exactly", () => {
  const counters = { _disk0: { read_ops: 0n, read_latency_min: 0xffff_ffff_ffff_ffffn } };
  assert.equal(
    writeJson(VmCountersSchema, counters),
    '{"_disk0":{"read_ops":0,"read_latency_min":18446744073709551615}}',
  );
});

Deno.test("writeJson() writes null for the missing half of a rate limiter only", () => {
  assert.equal(
    writeJson(RateLimiterConfigSchema, { ops: { size: 1n, refill_time: 2n } }),
    '{"bandwidth":null,"ops":{"size":1,"one_time_burst":null,"refill_time":2}}',
  );
});

Deno.test("writeJson() leaves out iommu while false and keeps schema order", () => {
  const disk = DiskConfigSchema.parse({ path: "/d", id: 'a"b' });
  assert.match(
    writeJson(DiskConfigSchema, disk),
    /^\{"id":"a\\"b","pci_segment":0,"path":"\/d","readonly":false,/,
  );
  assert.match(writeJson(DiskConfigSchema, { ...disk, iommu: true }), /"iommu":true,"pci_segment":0/);
});

Deno.test("writeJson() writes the device tree of a running VM as the original does", () => {
  const info: VmInfo = {
    config: VmConfigSchema.parse({}),
    state: "Running",
    memory_actual_size: 1n << 27n,
    device_tree: {
      __serial: { id: "__serial", resources: [], children: [] },
      "_virtio-pci-_disk0": {
        id: "_virtio-pci-_disk0",
        resources: [{
          PciBar: { index: 0, base: 3891789824n, size: 524288n, type_: "Mmio32", prefetchable: false },
        }],
        children: ["_disk0"],
        pci_bdf: "0000:00:02.0",
      },
      _disk0: { id: "_disk0", resources: [{ LegacyIrq: 5 }], parent: "_virtio-pci-_disk0", children: [] },
    },
  };
  const text = writeJson(VmInfoSchema, info);
  assert.ok(text.endsWith(
    '"state":"Running","memory_actual_size":134217728,"device_tree":{' +
      '"__serial":{"id":"__serial","resources":[],"children":[]},' +
      '"_virtio-pci-_disk0":{"id":"_virtio-pci-_disk0","resources":[{"PciBar":{"index":0,"base":3891789824,' +
      '"size":524288,"type_":"Mmio32","prefetchable":false}}],"children":["_disk0"],"pci_bdf":"0000:00:02.0"},' +
      '"_disk0":{"id":"_disk0","resources":[{"LegacyIrq":5}],"parent":"_virtio-pci-_disk0","children":[]}}}',
  ));
});

Deno.test("writeJson() writes a ping answer", () => {
  const ping = { build_version: "v54.0.0", version: "54.0.0", pid: 7, features: ["kvm"] };
  assert.equal(
    writeJson(VmmPingResponseSchema, ping),
    '{"build_version":"v54.0.0","version":"54.0.0","pid":7,"features":["kvm"]}',
  );
});

Deno.test("writeJson() escapes what JSON has to escape", () => {
  const write = (src: string) => writeJson(RngConfigSchema, RngConfigSchema.parse({ src }));
  for (const text of ['"', "\\", "\u0000", "\n", "\u001f", "\u007f", "\ud800", "é\u2028", "\u{1f600}", ""]) {
    assert.equal(write(text), `{"pci_segment":0,"src":${JSON.stringify(text)}}`);
  }
});

import assert from "node:assert/strict";
import { inspect } from "node:util";
import { VmConfigSchema } from "@schemas/api/vm_config.ts";
import { readJson } from "@schemas/json/reader.ts";
import { parseCommandLine } from "./command_line.ts";

/** Options with the least they need, and the same as JSON. */
const CASES: readonly (readonly [argv: readonly string[], json: Record<string, unknown>])[] = [
  [[], {}],
  [["--disk", "path=/a"], { disks: [{ path: "/a" }] }],
  [["--net", "mac=2e:00:00:00:00:01"], { net: [{ mac: "2e:00:00:00:00:01" }] }],
  [["--balloon", "size=1M"], { balloon: { size: 1 << 20 } }],
  [["--rtc"], { rtc: {} }],
  [["--pmem", "file=/a"], { pmem: [{ file: "/a" }] }],
  [["--vsock", "cid=3,socket=/a"], { vsock: { cid: 3, socket: "/a" } }],
  [["--vdpa", "path=/a"], { vdpa: [{ path: "/a" }] }],
  [["--device", "path=/a"], { devices: [{ path: "/a" }] }],
  [["--tpm", "socket=/a"], { tpm: { socket: "/a" } }],
  [["--platform", ""], { platform: {} }],
  [["--pci-segment", ""], { pci_segments: [{}] }],
  [["--numa", "guest_numa_id=0,cpus=0"], { numa: [{ guest_numa_id: 0, cpus: [0] }] }],
  [["--fw-cfg-config", "kernel=off,cmdline=off,initramfs=off"], {
    payload: { kernel: "/k", fw_cfg_config: { kernel: false, cmdline: false, initramfs: false } },
  }],
  [["--memory", "size=0,shared=on", "--memory-zone", "id=z,size=1M"], {
    memory: { size: 0, shared: true, zones: [{ id: "z", size: 1 << 20 }] },
  }],
  [
    [
      "--memory",
      "shared=on",
      "--fs",
      "tag=t,socket=/a",
      "--user-device",
      "socket=/b",
      "--generic-vhost-user",
      "socket=/c,device_type=1,queue_sizes=[1]",
    ],
    {
      memory: { size: 512 << 20, shared: true },
      fs: [{ tag: "t", socket: "/a" }],
      user_devices: [{ socket: "/b" }],
      generic_vhost_user: [{ socket: "/c", device_type: 1, queue_sizes: [1] }],
    },
  ],
  [["--rate-limit-group", "id=g,bw_size=1,bw_refill_time=1"], {
    rate_limit_groups: [{
      id: "g",
      rate_limiter_config: { bandwidth: { size: 1, one_time_burst: 0, refill_time: 1 } },
    }],
  }],
];

/** Without absent fields, which both sides may leave out or set to undefined. */
const plain = (value: unknown): unknown =>
  Array.isArray(value) ? value.map(plain) : value !== null && typeof value === "object"
    ? Object.fromEntries(
      Object.entries(value).flatMap(([key, item]) => item === undefined ? [] : [[key, plain(item)]]),
    )
    : value;

for (const [argv, json] of CASES) {
  Deno.test(`the defaults of the command line are those of the schemas: ${argv.join(" ") || "none"}`, async () => {
    const result = await parseCommandLine(["--kernel", "/k", ...argv], "cloud-hypervisor");
    assert(result.kind === "run", inspect(result));
    const expected = readJson(VmConfigSchema, JSON.stringify({ payload: { kernel: "/k" }, ...json }));
    assert(expected.ok, inspect(expected));
    assert.deepEqual(plain(result.vm), plain(expected.value));
  });
}

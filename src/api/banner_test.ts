import assert from "node:assert/strict";
import type { VmConfig } from "@schemas/api/vm_config.ts";
import { startBanner } from "./banner.ts";

Deno.test("startBanner() shows the defaults of a program that waits", () => {
  assert.equal(
    startBanner("/run/api.sock", undefined),
    "Cloud Hypervisor Guest\n    API server: /run/api.sock\n    vCPUs: 1\n    Memory: 512 MB\n    Kernel: None\n" +
      "    Kernel cmdline:\n    Disk(s): None\n",
  );
});

Deno.test("startBanner() adds up the zones of the memory", () => {
  const zones = [{ id: "a", size: 1n << 28n }, { id: "b", size: 1n << 29n }];
  const config = { cpus: { boot_vcpus: 1 }, memory: { size: 0n, zones } } as unknown as VmConfig;
  assert.match(startBanner(undefined, config), /^ {4}Memory: 768 MB$/m);
});

Deno.test("startBanner() shows the VM of the command line", () => {
  const config = {
    cpus: { boot_vcpus: 4 },
    memory: { size: 1n << 30n },
    payload: { kernel: "/vmlinux", cmdline: "console=hvc0" },
    disks: [{ path: "/a" }, { path: "/b" }],
  } as unknown as VmConfig;
  assert.equal(
    startBanner(undefined, config),
    "Cloud Hypervisor Guest\n    API server: None\n    vCPUs: 4\n    Memory: 1024 MB\n    Kernel: /vmlinux\n" +
      "    Kernel cmdline: console=hvc0\n    Disk(s): /a, /b\n",
  );
});

/**
 * Configurations that only `vm.boot` can judge, beside the original: the same answers, the same devices.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { testWith } from "@tests/framework/programs.ts";
import { COUNT, pvhElf } from "@tests/framework/tiny_guest.ts";
import { Vm } from "@tests/framework/vm.ts";

const MIB = 1 << 20;
const size = 64 * MIB;
const memory = { size };
const zone = (more: object) => ({ memory: { size: 0, zones: [{ id: "z", size, ...more }] } });

/** Only Intel's CPUs may have matrix extensions. */
const IS_INTEL = Deno.readTextFileSync("/proc/cpuinfo").includes("GenuineIntel");

/** A NUMA node no host has. */
const NO_NODE = 1023;

/** `{dir}` stands for a directory that holds the file `kernel`. */
const CONFIGS: readonly object[] = [
  { memory: { size, hotplugged_size: 5 } },
  { memory: { size, hotplug_size: 128 * MIB, hotplugged_size: 128 * MIB } },
  { memory: { size, hotplug_size: 128 * MIB, hotplugged_size: 256 * MIB, hotplug_method: "VirtioMem" } },
  { memory: { size, zones: [] } },
  { memory: { size: 0, zones: [] } },
  { memory: { size, zones: [{ id: "a", size }] } },
  { memory: { size: 0, zones: [{ id: "a", size }, { id: "a", size }] } },
  zone({ hotplug_size: 128 * MIB }),
  zone({ hotplugged_size: 128 * MIB }),
  zone({ shared: true, file: "{dir}/kernel", host_numa_node: 0 }),
  { memory, numa: [{ guest_numa_id: 0, cpus: [0], memory_zones: ["absent"] }] },
  { memory, numa: [{ guest_numa_id: 0, cpus: [0], memory_zones: ["mem0"] }] },
  {
    memory,
    numa: [{ guest_numa_id: 0, memory_zones: ["mem0"], distances: [{ destination: 3, distance: 20 }] }],
  },
  { memory, numa: [{ guest_numa_id: 0, cpus: [0] }, { guest_numa_id: 0, memory_zones: ["mem0"] }] },
  {
    memory,
    numa: [{ guest_numa_id: 0, memory_zones: ["mem0"] }, {
      guest_numa_id: 1,
      cpus: [0],
      distances: [{ destination: 0, distance: 20 }, { destination: 0, distance: 21 }],
    }],
  },
  ...["Off", "Null", "Tty", "Pty"].map((mode) => ({ memory, debug_console: { mode } })),
  { memory, debug_console: { mode: "File", file: "{dir}/debug" } },
  ...(IS_INTEL ? [] : [{ memory, cpus: { boot_vcpus: 1, max_vcpus: 1, features: { amx: true } } }]),
  { memory, cpus: { boot_vcpus: 2000, max_vcpus: 8192 } },
  { memory, console: { mode: "Off", pci_device_id: 1 } },
  { memory, console: { mode: "Null", pci_device_id: 1 } },
  { memory, serial: { mode: "Off" }, pvpanic: true, watchdog: true, balloon: { size: 0 } },
  // What is found out first: files of memory zones, then the rest of the configuration.
  zone({ file: "{dir}/missing" }),
  zone({ file: "{dir}" }),
  zone({ file: "/dev/zero" }),
  { ...zone({ file: "{dir}/missing" }), platform: { num_pci_segments: 0 } },
  { memory: { size: 0, zones: [{ id: "a", size }, { id: "a", size, file: "{dir}/missing" }] } },
  zone({ host_numa_node: 0 }),
  zone({ host_numa_node: NO_NODE }),
  zone({ host_numa_node: 2 ** 32 - 1 }),
  { ...zone({ host_numa_node: NO_NODE }), disks: [{ path: "{dir}/missing" }] },
];

/** Our errors name a zone's file in addition. */
const withoutFile = (text: string) => text.replace(/,"Memory zone file [^,]*(?=\]$)/, "");

const needs = { kvm: true, binary: true, reference: true };

testWith(
  needs,
  "boot beside the original: contradictory memory, NUMA nodes, consoles in the device tree",
  async () => {
    const seen: Record<string, string[]> = {};
    for (const program of ["cloud-hypervisor", "reference"] as const) {
      await using vm = await Vm.start({ program });
      await Deno.writeFile(join(vm.directory, "kernel"), pvhElf(COUNT));
      const answers: string[] = seen[program] = [];
      for (const config of CONFIGS) {
        const base = {
          payload: { kernel: "{dir}/kernel" },
          serial: { mode: "Null" },
          console: { mode: "Off" },
        };
        const body = JSON.stringify({ ...base, ...config }).replaceAll("{dir}", vm.directory);
        await vm.api.mustPut("vm.create", body);
        const { status, body: text } = await vm.api.put("vm.boot");
        const devices = status === 204 ? Object.keys((await vm.api.info()).device_tree).sort() : [];
        answers.push(`${JSON.stringify(config)}: ${status} ${withoutFile(text)} ${devices}`);
        await vm.api.mustPut("vm.delete");
      }
    }
    assert.deepEqual(seen["cloud-hypervisor"], seen["reference"]);
  },
);

/** Tries to boot what cannot be, twice, with what the state then allows between. */
const RETRIES: readonly object[] = [
  { serial: { mode: "File", file: "{dir}/none/serial" }, numa: [{ guest_numa_id: 0 }] },
  { payload: { kernel: "{dir}/kernel", initramfs: "{dir}/missing" } },
  { payload: { kernel: "{dir}/missing", initramfs: "{dir}/missing" } },
  { payload: { kernel: "{dir}/missing" } },
];

testWith(needs, "boot beside the original: what a failed boot leaves behind", async () => {
  const seen: Record<string, string[]> = {};
  for (const program of ["cloud-hypervisor", "reference"] as const) {
    await using vm = await Vm.start({ program });
    await Deno.writeFile(join(vm.directory, "kernel"), pvhElf(COUNT));
    const answers: string[] = seen[program] = [];
    for (const config of RETRIES) {
      const base = {
        memory,
        payload: { kernel: "{dir}/kernel" },
        serial: { mode: "Null" },
        console: { mode: "Off" },
      };
      const body = JSON.stringify({ ...base, ...config }).replaceAll("{dir}", vm.directory);
      for (const operation of ["vm.create", "vm.boot", "vm.pause", "vm.boot", "vm.shutdown", "vm.delete"]) {
        const answer = await vm.api.put(operation, operation === "vm.create" ? body : undefined);
        answers.push(`${JSON.stringify(config)} ${operation}: ${answer.status} ${answer.body}`);
        const { state } = (await vm.api.get("vm.info")).json<{ state?: string }>();
        answers.push(`${(await vm.api.get("vm.counters")).body} ${state}`);
      }
    }
  }
  assert.deepEqual(seen["cloud-hypervisor"], seen["reference"]);
});

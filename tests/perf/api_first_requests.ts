/**
 * The first requests a program answers, beside the original: of `vmm.ping` and `vm.info`, kept alive, p50 and p99.
 *
 *     REFERENCE_VMM=… deno run -A tests/perf/api_first_requests.ts [--starts N] [--requests N] [--wait MS] [--busy]
 *
 * Each start boots a VM, waits, and asks; the programs take turns. `--busy` has all vCPUs spin. Nothing is asserted.
 */
import { parseArgs } from "node:util";
import { programPath } from "@tests/framework/programs.ts";
import { HALT, pvhElf, SPIN } from "@tests/framework/tiny_guest.ts";
import { Vm } from "@tests/framework/vm.ts";
import { median, percentile } from "./client.ts";
import { NativeClient } from "./native_client.ts";

const { values: options } = parseArgs({
  options: {
    starts: { type: "string", default: "6" },
    requests: { type: "string", default: "1000" },
    wait: { type: "string", default: "1000" },
    busy: { type: "boolean", default: false },
  },
});
const count = Number(options.requests);
const vcpus = options.busy ? navigator.hardwareConcurrency : 1;
const directory = await Deno.makeTempDir({ prefix: "nephos-first-" });
const client = await NativeClient.build(directory);
const programs = (["nephos", "cloud-hypervisor", "reference"] as const).filter((name) => programPath(name));

/** The first requests of one start; microseconds for each. */
async function firstRequests(program: typeof programs[number], endpoint: string): Promise<number[]> {
  await using vm = await Vm.start({ program });
  await Deno.writeFile(`${vm.directory}/kernel`, pvhElf(options.busy ? SPIN : HALT));
  await vm.api.mustPut("vm.create", {
    cpus: { boot_vcpus: vcpus, max_vcpus: vcpus },
    memory: { size: 128 << 20 },
    payload: { kernel: `${vm.directory}/kernel` },
    serial: { mode: "Null" },
    console: { mode: "Off" },
  });
  await vm.api.mustPut("vm.boot");
  await new Promise((resolve) => setTimeout(resolve, Number(options.wait)));
  return await client.run({ socket: vm.api.socketPath, endpoint, count, warmUp: 0, isNew: false });
}

console.log(
  "figure".padEnd(34) + programs.map((name) => name.padStart(18)).join("") + "   ratios to the original",
);
for (const endpoint of ["vmm.ping", "vm.info"]) {
  const times: number[][] = programs.map(() => []);
  for (let start = 0; start < Number(options.starts); start++) {
    for (const [at, program] of programs.entries()) times[at].push(...await firstRequests(program, endpoint));
  }
  for (const [name, of] of [["p50", median], ["p99", (list: number[]) => percentile(list, 0.99)]] as const) {
    const values = times.map(of);
    const ratios = values.map((value) => (value / values.at(-1)!).toFixed(2)).slice(0, -1).join(" / ");
    const cells = values.map((value) => value.toFixed(1).padStart(18)).join("");
    console.log(`first ${count} ${endpoint} ${name} (µs)`.padEnd(34) + cells + `   ${ratios}`);
  }
}
await Deno.remove(directory, { recursive: true });

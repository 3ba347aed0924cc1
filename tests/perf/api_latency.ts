/**
 * Latency of the REST API beside the original: `vmm.ping` and `vm.info`, p50 and p99, through both front doors.
 *
 *     REFERENCE_VMM=… deno run -A tests/perf/api_latency.ts [--rounds N] [--turn REQUESTS] [--shield]
 *
 * The programs take turns of some requests each, so that whatever else the machine does hits all alike; a VM runs during its
 * program's turns only. The client is a small C program (`api_client.c`), so that no second runtime is measured. `--shield`
 * puts client and programs, but not the vCPUs, ahead of everything else on the machine. Nothing is asserted.
 */
import { parseArgs } from "node:util";
import { HALT, pvhElf, SPIN } from "@tests/framework/tiny_guest.ts";
import { programPath } from "@tests/framework/programs.ts";
import { Vm } from "@tests/framework/vm.ts";
import { median, percentile } from "./client.ts";
import { NativeClient } from "./native_client.ts";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "40" },
    turn: { type: "string", default: "200" },
    shield: { type: "boolean", default: false },
  },
});
const ROUNDS = Number(options.rounds);
const REQUESTS_PER_TURN = Number(options.turn);
const WARM_UP_REQUESTS = 10;
/** Requests each program has answered before anything is measured: its code is compiled then. */
const FIRST_REQUESTS = 3_000;

/** One program's turn; microseconds per request. */
function takeTurn(socket: string, endpoint: string, isNew: boolean, count: number): Promise<number[]> {
  return client.run({ socket, endpoint, count, warmUp: WARM_UP_REQUESTS, isNew, isFirst: options.shield });
}

/** Puts a process ahead of the rest, but for its vCPUs: those are the load its API has to stand. */
async function goFirst(pid: number): Promise<void> {
  for await (const { name: tid } of Deno.readDir(`/proc/${pid}/task`)) {
    const thread = await Deno.readTextFile(`/proc/${pid}/task/${tid}/comm`).catch(() => "");
    if (thread.startsWith("vcpu")) continue;
    const { success } = await new Deno.Command("chrt", { args: ["--rr", "-p", "1", tid] }).output();
    const isThere = await Deno.stat(`/proc/${pid}/task/${tid}`).then(() => true, () => false);
    if (!success && isThere) throw new Error("chrt failed: --shield needs root");
  }
}

const directory = await Deno.makeTempDir({ prefix: "nephos-latency-" });
const client = await NativeClient.build(directory);
const programs = (["nephos", "cloud-hypervisor", "reference"] as const).filter((name) => programPath(name));
const vcpus = navigator.hardwareConcurrency;
console.log(
  "figure".padEnd(44) + programs.map((name) => name.padStart(18)).join("") + "   ratios to the original",
);

for (const [state, code, count] of [["idle", HALT, 1], [`${vcpus} vCPUs spinning`, SPIN, vcpus]] as const) {
  await using stack = new AsyncDisposableStack();
  const vms: Vm[] = [];
  for (const program of programs) {
    const vm = stack.use(await Vm.start({ program }));
    await Deno.writeFile(`${vm.directory}/kernel`, pvhElf(code));
    await vm.api.mustPut("vm.create", {
      cpus: { boot_vcpus: count, max_vcpus: count },
      memory: { size: 128 << 20 },
      payload: { kernel: `${vm.directory}/kernel` },
      disks: [],
      serial: { mode: "Null" },
      console: { mode: "Off" },
    });
    await vm.api.mustPut("vm.boot");
    await takeTurn(vm.api.socketPath, "vm.info", false, FIRST_REQUESTS);
    await vm.api.mustPut("vm.pause");
    if (options.shield) await goFirst(vm.pid);
    vms.push(vm);
  }
  for (const isNew of [false, true]) {
    for (const endpoint of ["vmm.ping", "vm.info"]) {
      const times: number[][] = programs.map(() => []);
      for (let round = 0; round < ROUNDS; round++) {
        for (const [index, vm] of vms.entries()) {
          await vm.api.mustPut("vm.resume");
          times[index].push(...await takeTurn(vm.api.socketPath, endpoint, isNew, REQUESTS_PER_TURN));
          await vm.api.mustPut("vm.pause");
        }
      }
      for (const p of [0.5, 0.99]) {
        const values = times.map((list) => p === 0.5 ? median(list) : percentile(list, p));
        const name = `${endpoint} ${isNew ? "new connection" : "kept alive"} p${p * 100}, ${state} (µs)`;
        const ratios = values.map((value) => (value / values.at(-1)!).toFixed(2)).slice(0, -1).join(" / ");
        console.log(
          name.padEnd(44) + values.map((value) => value.toFixed(1).padStart(18)).join("") + `   ${ratios}`,
        );
      }
    }
  }
}
await Deno.remove(directory, { recursive: true });

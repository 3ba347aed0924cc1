/**
 * The core's figures beside the original, in one run: medians of both programs and their ratio.
 *
 *     REFERENCE_VMM=… NEPHOS_GUEST_DIR=… deno run -A tests/perf/beside_original.ts [--linux] [--rounds N]
 *
 * Nothing is asserted: machines are noisy. Rounds alternate between the programs so that load hits both alike.
 */
import { parseArgs } from "node:util";
import { EXIT_COST, EXIT_COST_ROUNDS, HALT, pvhElf, SPIN } from "../framework/tiny_guest.ts";
import { ApiConnection, median, percentile } from "./client.ts";

const { values: options } = parseArgs({
  options: {
    linux: { type: "boolean", default: false },
    rounds: { type: "string", default: "7" },
    only: { type: "string" },
  },
});
const rounds = Number(options.rounds);
const nephos = Deno.env.get("NEPHOS_BIN") ?? new URL("../../dist/nephos", import.meta.url).pathname;
const reference = Deno.env.get("REFERENCE_VMM");
const guestDirectory = Deno.env.get("NEPHOS_GUEST_DIR");
const programs = [["nephos", nephos], ...(reference ? [["original", reference]] : [])] as [string, string][];
const directory = await Deno.makeTempDir({ dir: "/dev/shm", prefix: "nephos-perf-" });

/** One running program with a connection to it. */
class Running {
  private constructor(
    readonly process: Deno.ChildProcess,
    readonly api: ApiConnection,
    readonly socket: string,
    readonly startMs: number,
  ) {}

  static async start(program: string, args: string[] = []): Promise<Running> {
    const socket = `${directory}/api-${crypto.randomUUID()}`;
    const began = performance.now();
    const process = new Deno.Command(program, {
      args: ["--api-socket", socket, ...args],
      stdout: "null",
      stderr: "null",
      stdin: "null",
    }).spawn();
    for (;;) {
      try {
        const api = await ApiConnection.open(socket);
        if ((await api.request("GET", "vmm.ping")).status === 200) {
          return new Running(process, api, socket, performance.now() - began);
        }
        api.close();
      } catch {
        if (performance.now() - began > 20_000) throw new Error(`${program} did not answer within 20 s`);
      }
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  }

  /** Creates and boots a guest. */
  async boot(config: Record<string, unknown>): Promise<void> {
    for (const [endpoint, body] of [["vm.create", JSON.stringify(config)], ["vm.boot", undefined]] as const) {
      const answer = await this.api.request("PUT", endpoint, body);
      if (answer.status !== 204) throw new Error(`${endpoint}: ${answer.status} ${answer.body}`);
    }
  }

  async stop(): Promise<void> {
    await this.api.request("PUT", "vmm.shutdown").catch(() => {});
    this.api.close();
    await this.process.status;
  }
}

async function guestFile(name: string, code: Uint8Array): Promise<string> {
  const path = `${directory}/${name}`;
  await Deno.writeFile(path, pvhElf(code));
  return path;
}

function config(
  kernel: string,
  serial: string,
  extra: Record<string, unknown> = {},
): Record<string, unknown> {
  return {
    cpus: { boot_vcpus: 1, max_vcpus: 1 },
    memory: { size: 128 << 20 },
    payload: { kernel },
    serial: { mode: "File", file: serial },
    console: { mode: "Off" },
    ...extra,
  };
}

/** Waits until `path` holds `marker`. */
async function waitFor(path: string, marker: string, timeoutMs: number): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (performance.now() < end) {
    const text = await Deno.readTextFile(path).catch(() => "");
    if (text.includes(marker)) return;
    await new Promise((resolve) => setTimeout(resolve, timeoutMs > 10_000 ? 5 : 0));
  }
  throw new Error(`"${marker}" did not appear in ${path}`);
}

type Row = Map<string, number[]>;
const rows = new Map<string, { unit: string; row: Row }>();
function record(name: string, unit: string, program: string, value: number): void {
  const entry = rows.get(name) ?? { unit, row: new Map() };
  entry.row.set(program, [...(entry.row.get(program) ?? []), value]);
  rows.set(name, entry);
}

const wanted = (name: string) => options.only === undefined || name.includes(options.only);

async function startAndBoot(label: string, program: string): Promise<void> {
  const running = await Running.start(program);
  record("start to first ping", "ms", label, running.startMs);
  const serial = `${directory}/serial`;
  await Deno.remove(serial).catch(() => {});
  const halt = await guestFile("halt", HALT);
  await new Promise((resolve) => setTimeout(resolve, 150)); // clients do not create in the same millisecond
  const began = performance.now();
  await running.boot(config(halt, serial));
  await waitFor(serial, "U", 5000);
  record("create+boot to guest code", "ms", label, performance.now() - began);
  await running.stop();
}

async function exitCost(label: string, program: string): Promise<void> {
  const running = await Running.start(program);
  const serial = `${directory}/exits-${label}`;
  await Deno.remove(serial).catch(() => {});
  await running.boot(config(await guestFile("exits", EXIT_COST), serial));
  for (;;) {
    const bytes = await Deno.readFile(serial).catch(() => new Uint8Array());
    if (bytes.length >= 18) {
      const view = new DataView(bytes.buffer);
      record("port exit", "cycles", label, Number(view.getBigUint64(1, true)) / EXIT_COST_ROUNDS);
      record("MMIO exit", "cycles", label, Number(view.getBigUint64(9, true)) / EXIT_COST_ROUNDS);
      break;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await running.stop();
}

async function latency(label: string, program: string): Promise<void> {
  for (const [state, code] of [["idle", HALT], ["guest spinning", SPIN]] as const) {
    const running = await Running.start(program);
    const serial = `${directory}/latency`;
    await Deno.remove(serial).catch(() => {});
    await running.boot(config(await guestFile("latency-guest", code), serial));
    await waitFor(serial, "U", 5000);
    for (const endpoint of ["vmm.ping", "vm.info"]) {
      for (let i = 0; i < 200; i++) await running.api.request("GET", endpoint);
      const times: number[] = [];
      for (let i = 0; i < 1000; i++) {
        const began = performance.now();
        await running.api.request("GET", endpoint);
        times.push((performance.now() - began) * 1000);
      }
      record(`${endpoint} p50, ${state}`, "µs", label, median(times));
      record(`${endpoint} p99, ${state}`, "µs", label, percentile(times, 0.99));
    }
    await running.stop();
  }
}

/** Proportional memory of a process without its guest RAM mappings, KiB. */
async function overheadKib(pid: number): Promise<number> {
  const smaps = await Deno.readTextFile(`/proc/${pid}/smaps`);
  let total = 0;
  let current = 0;
  let sizeKib = 0;
  const flush = () => {
    if (sizeKib < 128 * 1024) total += current;
    current = 0;
  };
  for (const line of smaps.split("\n")) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) flush();
    const size = /^Size: +(\d+)/.exec(line);
    if (size) sizeKib = Number(size[1]);
    const pss = /^Pss: +(\d+)/.exec(line);
    if (pss) current = Number(pss[1]);
  }
  flush();
  return total;
}

async function memory(label: string, program: string): Promise<void> {
  const disk = `${directory}/disk`;
  await Deno.writeFile(disk, new Uint8Array(1 << 20));
  for (const vcpus of [1, 4]) {
    const running = await Running.start(program);
    const serial = `${directory}/memory`;
    await Deno.remove(serial).catch(() => {});
    await running.boot(config(await guestFile("memory-guest", HALT), serial, {
      cpus: { boot_vcpus: vcpus, max_vcpus: vcpus },
      disks: [{ path: disk, image_type: "Raw" }],
      console: { mode: "Null" },
    }));
    await waitFor(serial, "U", 5000);
    await new Promise((resolve) => setTimeout(resolve, 4000)); // steady: what only the start needed is given back by then
    record(`memory beyond guest RAM, ${vcpus} vCPU`, "KiB", label, await overheadKib(running.process.pid));
    await running.stop();
  }
}

/** CPU time of all threads of a process in nanoseconds: clock ticks are as coarse as what is to be compared. */
async function cpuNs(pid: number): Promise<number> {
  let total = 0;
  for await (const { name } of Deno.readDir(`/proc/${pid}/task`)) {
    const [ran] = (await Deno.readTextFile(`/proc/${pid}/task/${name}/schedstat`)).split(" ");
    total += Number(ran);
  }
  return total;
}

async function linux(label: string, program: string): Promise<void> {
  const running = await Running.start(program);
  const serial = `${directory}/linux`;
  await Deno.remove(serial).catch(() => {});
  const initramfs = Deno.env.get("NEPHOS_INITRAMFS") ?? `${guestDirectory}/initramfs.cpio`;
  const began = performance.now();
  await running.boot(config(`${guestDirectory}/vmlinux-full`, serial, {
    payload: {
      kernel: `${guestDirectory}/vmlinux-full`,
      initramfs,
      cmdline: "console=ttyS0 quiet panic=-1 nephos.stay",
    },
  }));
  await waitFor(serial, "GUEST-UP", 120_000);
  record("create+boot to Linux marker", "ms", label, performance.now() - began);
  if (Deno.env.get("NEPHOS_INITRAMFS")) {
    await new Promise((resolve) => setTimeout(resolve, 5000));
    const before = await cpuNs(running.process.pid);
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    const busyNs = await cpuNs(running.process.pid) - before;
    record("idle CPU", "% of a core", label, busyNs / 10e9 * 100);
  }
  await running.stop();
}

const scenarios: [string, (label: string, program: string) => Promise<void>, number][] = [
  ["start", startAndBoot, rounds],
  ["exit", exitCost, Math.ceil(rounds / 2)],
  ["latency", latency, Math.ceil(rounds / 3)],
  ["memory", memory, 1],
  ...(options.linux ? [["linux", linux, Math.ceil(rounds / 3)] as [string, typeof linux, number]] : []),
];
for (const [name, scenario, count] of scenarios) {
  if (!wanted(name)) continue;
  for (let round = 0; round < count; round++) {
    for (const [label, program] of programs) {
      try {
        await scenario(label, program);
      } catch (error) {
        console.error(`${name}, ${label}: ${(error as Error).message}`);
      }
    }
  }
}

console.log("figure".padEnd(38) + "nephos".padStart(12) + "original".padStart(12) + "ratio".padStart(9));
for (const [name, { unit, row }] of rows) {
  const ours = median(row.get("nephos") ?? [NaN]);
  const theirs = median(row.get("original") ?? [NaN]);
  const cells = [ours.toFixed(1), theirs.toFixed(1), (ours / theirs).toFixed(2)];
  console.log(
    `${name} (${unit})`.padEnd(38) + cells[0].padStart(12) + cells[1].padStart(12) + cells[2].padStart(9),
  );
}
await Deno.remove(directory, { recursive: true });

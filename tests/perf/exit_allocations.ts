/**
 * Bytes a vCPU Worker allocates per exit: none.
 *
 *     deno run -A tests/perf/exit_allocations.ts
 *
 * A guest does nothing but port and MMIO accesses while V8 reports its collections. A young generation of one MiB is
 * collected once per MiB allocated: collections × 1 MiB ÷ exits is the most an exit can have cost. Collections are
 * told apart by isolate; the vCPU's is the one nobody else is in.
 */
import { hex, pvhElf } from "../framework/tiny_guest.ts";
import { ApiConnection } from "./client.ts";

/** `1: mov $0x80,%dx; out %al,%dx; in %dx,%al; mov %eax,0xd0000000; mov 0xd0000000,%eax; jmp 1b` after printing "U". */
const EXITS = hex("baf8030000 b055 ee ba80000000 ee ec a3000000d0 a1000000d0 ebf2");
const SECONDS = 10;
const MIB = 1 << 20;

const nephos = Deno.env.get("NEPHOS_BIN") ?? new URL("../../dist/nephos", import.meta.url).pathname;
const directory = await Deno.makeTempDir({ dir: "/dev/shm", prefix: "nephos-perf-" });
const kernel = `${directory}/exits`;
const socket = `${directory}/api`;
await Deno.writeFile(kernel, pvhElf(EXITS));

const vmm = new Deno.Command(nephos, {
  args: [
    "--api-socket",
    socket,
    "--kernel",
    kernel,
    "--memory",
    "size=64M",
    "--serial",
    "null",
    "--console",
    "off",
  ],
  env: { NEPHOS_DENO_FLAGS: "--v8-flags=--trace-gc,--max-semi-space-size=1" },
  stdout: "piped",
  stderr: "null",
}).spawn();
const output = (async () => {
  let text = "";
  for await (const chunk of vmm.stdout) text += new TextDecoder().decode(chunk);
  return text;
})();

/** Exits so far, from `/metrics`. */
async function exits(): Promise<number> {
  using client = Deno.createHttpClient({ proxy: { transport: "unix", path: socket } });
  const text = await (await fetch("http://localhost/metrics", { client })).text();
  return [...text.matchAll(/^nephos_\S*exit\S* (\d+)$/gm)].reduce((sum, match) => sum + Number(match[1]), 0);
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
await pause(3000);
const before = await exits();
const mark = performance.now();
await pause(SECONDS * 1000);
const counted = await exits() - before;
const seconds = (performance.now() - mark) / 1000;
const api = await ApiConnection.open(socket);
await api.request("PUT", "vmm.shutdown").catch(() => {});
await vmm.status;

// "[pid:isolate] time ms: Scavenge …"; the first seconds are loading and compiling.
const lines = [...(await output).matchAll(/^\[\d+:(0x[0-9a-f]+):?\w*\]\s+(\d+) ms: (\S+)/gm)];
const perIsolate = new Map<string, number>();
for (const [, isolate, time] of lines) {
  if (Number(time) > 2500) perIsolate.set(isolate, (perIsolate.get(isolate) ?? 0) + 1);
}
console.log(`${counted} exits in ${seconds.toFixed(1)} s`);
for (const isolate of new Set(lines.map((line) => line[1]))) {
  const collections = perIsolate.get(isolate) ?? 0;
  const bytes = (collections * MIB / counted).toFixed(3);
  console.log(`isolate ${isolate}: ${collections} collections, at most ${bytes} bytes per exit`);
}
await Deno.remove(directory, { recursive: true });

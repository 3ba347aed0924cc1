/**
 * Endurance of the API, alone: create/delete cycles with memory and descriptors before and after, ten clients beside a
 * slow one, ping while other operations are under way.
 *
 *     deno run -A tests/perf/api_endurance.ts [cycles]
 *
 * Prints figures, asserts nothing.
 */
import { HALT, pvhElf } from "../framework/tiny_guest.ts";
import { ApiConnection, percentile } from "./client.ts";

const cycles = Number(Deno.args[0] ?? 10_000);
const program = Deno.env.get("NEPHOS_BIN") ?? new URL("../../dist/nephos", import.meta.url).pathname;
const directory = await Deno.makeTempDir({ prefix: "nephos-endurance-" });
const socket = `${directory}/api`;
const child = new Deno.Command(program, { args: ["--api-socket", socket], stdout: "null", stderr: "null" })
  .spawn();

async function connect(): Promise<ApiConnection> {
  for (let attempt = 0;; attempt++) {
    try {
      return await ApiConnection.open(socket);
    } catch (error) {
      if (attempt > 500) throw error;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

async function figures(): Promise<string> {
  const status = await Deno.readTextFile(`/proc/${child.pid}/status`);
  const rss = /VmRSS:\s+(\d+)/.exec(status)![1];
  const descriptors = [...Deno.readDirSync(`/proc/${child.pid}/fd`)].length;
  const threads = [...Deno.readDirSync(`/proc/${child.pid}/task`)].length;
  return `RSS ${rss} KiB, ${descriptors} descriptors, ${threads} threads`;
}

const api = await connect();
const body = JSON.stringify({
  payload: { kernel: "/nonexistent" },
  serial: { mode: "Null" },
  console: { mode: "Off" },
  disks: [{ path: "/nonexistent", image_type: "Raw" }],
});
console.log(`at start            ${await figures()}`);
for (let i = 1; i <= cycles; i++) {
  const created = await api.request("PUT", "vm.create", body);
  const deleted = await api.request("PUT", "vm.delete");
  if (created.status !== 204 || deleted.status !== 204) {
    throw new Error(`cycle ${i}: ${created.body} ${deleted.body}`);
  }
  if (i === Math.floor(cycles / 10) || i === cycles) {
    console.log(`after ${String(i).padStart(6)} cycles ${await figures()}`);
  }
}

// One client sends half a request and waits; the others must not notice.
const slow = await Deno.connect({ transport: "unix", path: socket });
await slow.write(
  new TextEncoder().encode("PUT /api/v1/vm.create HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"),
);
const clients = await Promise.all(Array.from({ length: 9 }, connect));
const times: number[] = [];
await Promise.all(clients.map(async (client) => {
  for (let i = 0; i < 500; i++) {
    const began = performance.now();
    await client.request("GET", "vmm.ping");
    times.push((performance.now() - began) * 1000);
  }
}));
console.log(
  `nine clients beside a slow one: ping p50 ${percentile(times, 0.5).toFixed(0)} µs, ` +
    `p99 ${percentile(times, 0.99).toFixed(0)} µs`,
);
slow.close();
clients.forEach((client) => client.close());

// Ping while the VM is created, booted, rebooted and shut down over and over.
const kernel = `${directory}/halt`;
await Deno.writeFile(kernel, pvhElf(HALT));
const pinger = await connect();
let done = false;
const waits: number[] = [];
const pinging = (async () => {
  while (!done) {
    const began = performance.now();
    await pinger.request("GET", "vmm.ping");
    waits.push(performance.now() - began);
  }
})();
const config = JSON.stringify({ payload: { kernel }, serial: { mode: "Null" }, console: { mode: "Off" } });
for (let i = 0; i < 10; i++) {
  for (
    const [endpoint, text] of [["vm.create", config], ["vm.boot"], ["vm.reboot"], ["vm.shutdown"], [
      "vm.delete",
    ]]
  ) {
    const answer = await api.request("PUT", endpoint, text);
    if (answer.status !== 204) throw new Error(`${endpoint}: ${answer.status} ${answer.body}`);
  }
}
done = true;
await pinging;
console.log(
  `ping during ten lives of a VM: p50 ${percentile(waits, 0.5).toFixed(2)} ms, longest ` +
    `${Math.max(...waits).toFixed(1)} ms of ${waits.length}`,
);
console.log(`at the end          ${await figures()}`);
await api.request("PUT", "vmm.shutdown").catch(() => {});
await child.status;
await Deno.remove(directory, { recursive: true });

/**
 * Network devices beside the original and beside the least that C can do: cycles per packet through a tap, both ways.
 *
 *     REFERENCE_VMM=… deno run -A tests/perf/net_beside_original.ts [--rounds N] [--only TEXT] [--servers nephos,original,c]
 *
 * On a machine that others use as well, `--shield` keeps driver and device on a CPU each, ahead of the rest.
 * Sent packets end in the host's network stack, which does not know their type. Received ones wait in the tap's queue
 * before the clock starts, so that no sender competes for the CPUs. Nothing is asserted. Needs KVM, gcc, root and `ip`.
 */
import { parseArgs } from "node:util";
import { NetworkNamespace } from "../framework/netns.ts";
import { programPath } from "../framework/programs.ts";
import { compilePrograms, type GuestSetup, IoGuest, type Server } from "./io_guest.ts";
import { printTable, type Row, takeTurns } from "./side_by_side.ts";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "7" },
    only: { type: "string", default: "" },
    servers: { type: "string", default: "nephos,original,c" },
    shield: { type: "boolean", default: false },
  },
});
const TAP = "perf0";
const TAP_QUEUE = 40_000;
const RECEIVED = 30_000;
const SENT = 60_000;

const wanted = options.servers.split(",") as Server[];
const servers = wanted.filter((server) => server !== "original" || programPath("reference") !== undefined);
if (servers.length < wanted.length) console.log("REFERENCE_VMM is not set: measuring without the original");

const directory = await Deno.makeTempDir({ dir: "/dev/shm", prefix: "nephos-perf-" });
const programs = await compilePrograms(directory);
const namespaces = new Map<IoGuest, NetworkNamespace>();

const send = (length: number, depth: number): Row => ({
  name: `send ${length} bytes, ${depth} on their way`,
  job: { operation: "TRANSMIT", depth, length, count: depth === 1 ? SENT / 4 : SENT },
});
const receive = (length: number): Row => ({
  name: `receive ${length} bytes`,
  job: { operation: "RECEIVE", depth: 128, length, count: RECEIVED },
  prepare: async (guest) => {
    await namespaces.get(guest)!.exec(programs.tapFill, TAP, String(RECEIVED), String(length));
  },
});
const ROWS = [send(60, 128), send(1514, 128), send(60, 1), receive(60), receive(1514)];

async function prepareTap(): Promise<NetworkNamespace> {
  const namespace = await NetworkNamespace.create();
  // or the host greets its new neighbours with packets of its own
  await namespace.exec("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6");
  await namespace.addTap(TAP);
  await namespace.exec("ip", "link", "set", TAP, "txqueuelen", String(TAP_QUEUE));
  return namespace;
}

async function measure(title: string, setup: Omit<GuestSetup, "device" | "path">): Promise<void> {
  if (!title.includes(options.only)) return;
  const guests: IoGuest[] = [];
  const used: NetworkNamespace[] = [];
  try {
    for (const server of servers) {
      const namespace = await prepareTap();
      used.push(namespace);
      const guest = await IoGuest.start(server, programs, {
        ...setup,
        device: "net",
        path: TAP,
        netns: namespace.name,
      });
      guests.push(guest);
      if (options.shield) await guest.shield();
      namespaces.set(guest, namespace);
      guest.sleep();
    }
    printTable(title, ROWS, await takeTurns(guests, ROWS, Number(options.rounds)));
  } catch (error) {
    console.log(`\n${title}: ${(error as Error).message}`);
  } finally {
    for (const guest of guests) await guest[Symbol.asyncDispose]();
    for (const namespace of used) await namespace[Symbol.asyncDispose]();
  }
}

try {
  await measure("tap", { eventIdx: true });
  await measure("tap, with interrupts", { eventIdx: true, interrupts: true });
} finally {
  await Deno.remove(directory, { recursive: true });
}

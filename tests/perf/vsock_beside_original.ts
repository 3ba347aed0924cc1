/**
 * Socket devices beside the original and beside the least that C can do: cycles per packet through a UNIX socket, both ways.
 *
 *     REFERENCE_VMM=… deno run -A tests/perf/vsock_beside_original.ts [--rounds N] [--only TEXT] [--servers nephos,original,c]
 *
 * On a machine that others use as well, `--shield` keeps driver and device on a CPU each, ahead of the rest.
 * What the guest sends is read by a program that does nothing else, on the device's CPU. What it receives waits in the
 * socket before the clock starts. A guest has the credit the device gives it, 64 KiB. Nothing is asserted. Needs KVM, gcc, root.
 */
import { parseArgs } from "node:util";
import { Capture } from "../framework/capture.ts";
import { run } from "../framework/command.ts";
import { programPath } from "../framework/programs.ts";
import { C, compilePrograms, type GuestSetup, IoGuest, type Job, type Server } from "./io_guest.ts";
import { printTable, type Row, takeTurns } from "./side_by_side.ts";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "7" },
    only: { type: "string", default: "" },
    servers: { type: "string", default: "nephos,original,c" },
    shield: { type: "boolean", default: false },
  },
});
/** How much goes over the socket in one turn. */
const TURN_BYTES = 64 << 20;

const wanted = options.servers.split(",") as Server[];
const servers = wanted.filter((server) => server !== "original" || programPath("reference") !== undefined);
if (servers.length < wanted.length) console.log("REFERENCE_VMM is not set: measuring without the original");

const directory = await Deno.makeTempDir({ dir: "/dev/shm", prefix: "nephos-perf-" });
const programs = await compilePrograms(directory);

/** The program that takes and gives bytes; see `guests/vsock_peer.c`. */
class Peer implements AsyncDisposable {
  #fills = 0;

  private constructor(
    private readonly child: Deno.ChildProcess,
    private readonly stdin: WritableStreamDefaultWriter<Uint8Array>,
    private readonly stdout: Capture,
  ) {}

  static async start(socket: string): Promise<Peer> {
    const child = new Deno.Command(programs.vsockPeer, {
      args: [C.SINK_PORT, C.SOURCE_PORT].map((port) => `${socket}_${port}`),
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const peer = new Peer(child, child.stdin.getWriter(), new Capture("the peer", child.stdout));
    await peer.stdout.waitFor("ready\n");
    return peer;
  }

  /** Puts bytes into the guest's socket. */
  async fill(lengthBytes: number): Promise<void> {
    await this.stdin.write(new TextEncoder().encode(`${lengthBytes}\n`));
    await this.stdout.waitFor(new RegExp(`^ready\\n(filled\\n){${++this.#fills}}$`));
  }

  /** As `IoGuest.shield`, beside the device. */
  async shield(): Promise<void> {
    await run(
      "renice",
      "-n",
      "-19",
      "-p",
      ...[...Deno.readDirSync(`/proc/${this.child.pid}/task`)].map((t) => t.name),
    );
    await run("taskset", "-a", "-p", "-c", "1", String(this.child.pid));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill("SIGKILL");
    await this.stdin.close().catch(() => {});
    await this.child.status;
    await this.stdout.done;
  }
}

const peers = new Map<IoGuest, Peer>();

const send = (length: number, depth: number, count = TURN_BYTES / length): Row => ({
  name: `send ${length} bytes, ${depth} on their way`,
  job: { operation: "STREAM_OUT", depth, length, count },
});
const receive = (length: number, depth: number, count = TURN_BYTES / length): Row => ({
  name: `receive into buffers of ${length} bytes`,
  job: { operation: "STREAM_IN", depth, length, count },
  prepare: async (guest) => await peers.get(guest)!.fill(count * length),
});
const SEND = [send(64, 128, 200_000), send(4096, 16), send(32768, 2)];
const RECEIVE = [receive(4096, 128), receive(65536, 64)];

async function measure(
  title: string,
  rows: readonly Row[],
  port: number,
  setup: Omit<GuestSetup, "device" | "path">,
): Promise<void> {
  if (!title.includes(options.only)) return;
  const guests: IoGuest[] = [];
  const used: Peer[] = [];
  try {
    for (const server of servers) {
      const path = `${directory}/${title.replaceAll(/\W+/g, "-")}-${server}`;
      const peer = await Peer.start(path);
      used.push(peer);
      const guest = await IoGuest.start(server, programs, { ...setup, device: "vsock", path });
      guests.push(guest);
      if (options.shield) await Promise.all([guest.shield(), peer.shield()]);
      peers.set(guest, peer);
      const open: Job = { operation: "STREAM_OPEN", depth: 1, length: 64, count: 1, blocks: port };
      if ((await guest.run(open)).errors > 0) throw new Error(`${server} refuses the connection`);
      guest.sleep();
    }
    printTable(title, rows, await takeTurns(guests, rows, Number(options.rounds)));
  } catch (error) {
    console.log(`\n${title}: ${(error as Error).message}`);
  } finally {
    for (const guest of guests) await guest[Symbol.asyncDispose]();
    for (const peer of used) await peer[Symbol.asyncDispose]();
  }
}

try {
  await measure("vsock out, polling", SEND, C.SINK_PORT, {});
  await measure("vsock in, polling", RECEIVE, C.SOURCE_PORT, {});
  await measure("vsock out, with interrupts", SEND, C.SINK_PORT, { interrupts: true });
  await measure("vsock in, with interrupts", RECEIVE, C.SOURCE_PORT, { interrupts: true });
} finally {
  await Deno.remove(directory, { recursive: true });
}

/**
 * Block devices beside the original and beside the least that C can do: cycles per request as a guest's driver sees them.
 *
 *     REFERENCE_VMM=… deno run -A tests/perf/block_beside_original.ts [--rounds N] [--only REGEXP] [--rows REGEXP] [--servers nephos,original,c]
 *
 * On a machine that others use as well, `--shield` keeps driver and device on a CPU each, ahead of the rest.
 * Nothing is asserted: machines are noisy. Needs KVM and gcc; qcow2 needs qemu-img.
 */
import { parseArgs } from "node:util";
import { run } from "../framework/command.ts";
import { programPath } from "../framework/programs.ts";
import { compilePrograms, type GuestSetup, IoGuest, type Job, type Server } from "./io_guest.ts";
import { printTable, type Row, takeTurns } from "./side_by_side.ts";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "7" },
    only: { type: "string", default: "" },
    rows: { type: "string", default: "" },
    servers: { type: "string", default: "nephos,original,c" },
    shield: { type: "boolean", default: false },
  },
});
const DISK_BYTES = 64 << 20;
const BLOCK_BYTES = 4096;
const BLOCKS = DISK_BYTES / BLOCK_BYTES;

const wanted = options.servers.split(",") as Server[];
const servers = wanted.filter((server) => server !== "original" || programPath("reference") !== undefined);
if (servers.length < wanted.length) console.log("REFERENCE_VMM is not set: measuring without the original");

const small = { length: BLOCK_BYTES, random: true, blocks: BLOCKS };
const large = { length: 128 << 10, depth: 8, count: 2400, blocks: BLOCKS };
const row = (name: string, job: Job): Row => ({ name, job });
const SINGLE = [
  row("4 KiB QD1 random read", { ...small, operation: "READ", depth: 1, count: 12_000 }),
  row("4 KiB QD1 random write", { ...small, operation: "WRITE", depth: 1, count: 12_000 }),
  row("4 KiB QD32 random read", { ...small, operation: "READ", depth: 32, count: 64_000 }),
  row("4 KiB QD32 random write", { ...small, operation: "WRITE", depth: 32, count: 64_000 }),
  row("4 KiB QD32 random read, in flight", {
    ...small,
    operation: "READ",
    depth: 32,
    count: 64_000,
    stream: true,
  }),
  row("4 KiB QD32 sequential read", { ...small, random: false, operation: "READ", depth: 32, count: 64_000 }),
  row("128 KiB QD8 sequential read", { ...large, operation: "READ" }),
  row("128 KiB QD8 sequential write", { ...large, operation: "WRITE" }),
];
const IN_PIECES = [
  row("128 KiB QD8 read in 32 pieces", { ...large, operation: "READ", segments: 32 }),
  row("128 KiB QD8 write in 32 pieces", { ...large, operation: "WRITE", segments: 32 }),
];
const DOUBLE = [
  row("4 KiB QD32 random read", { ...small, operation: "READ", depth: 32, count: 64_000, queues: 2 }),
  row("4 KiB QD32 random write", { ...small, operation: "WRITE", depth: 32, count: 64_000, queues: 2 }),
  row("128 KiB QD8 sequential read", { ...large, operation: "READ", queues: 2 }),
];

/** A disk whose blocks begin with their own numbers. */
function writeStamped(path: string): void {
  using file = Deno.openSync(path, { create: true, write: true, truncate: true });
  const chunk = new Uint8Array(1 << 20);
  const words = new BigUint64Array(chunk.buffer);
  const perChunk = chunk.length / BLOCK_BYTES;
  for (let block = 0; block < BLOCKS; block += perChunk) {
    for (let i = 0; i < perChunk; i++) words[i * BLOCK_BYTES / 8] = BigInt(block + i);
    file.writeSync(chunk);
  }
}

/** Measures one kind of disk. The C back-end knows raw files only: beside a qcow2 image it reads a raw one. */
async function measure(
  title: string,
  directory: string,
  all: readonly Row[],
  setup: Omit<GuestSetup, "device" | "path">,
  format = "raw",
): Promise<void> {
  if (!new RegExp(options.only).test(title)) return;
  const rows = all.filter(({ name }) => new RegExp(options.rows).test(name));
  const guests: IoGuest[] = [];
  try {
    for (const server of servers) {
      const raw = `${directory}/disk-${server}`;
      writeStamped(raw);
      let path = raw;
      const converted = format !== "raw" && server !== "c";
      if (converted) {
        path = `${raw}.${format}`;
        await run("qemu-img", "convert", "-f", "raw", "-O", format, raw, path);
      }
      const imageType = converted ? format[0].toUpperCase() + format.slice(1) : "Raw";
      const guest = await IoGuest.start(server, programs, { ...setup, device: "block", path, imageType });
      guests.push(guest);
      if (options.shield) await guest.shield();
      for (const depth of [1, 32]) {
        const { errors } = await guest.run({ ...small, operation: "READ", depth, count: 3200, verify: true });
        if (errors > 0) throw new Error(`${server} read ${errors} wrong blocks`);
      }
      guest.sleep();
    }
    printTable(title, rows, await takeTurns(guests, rows, Number(options.rounds)));
  } catch (error) {
    console.log(`\n${title}: ${(error as Error).message}`);
  } finally {
    for (const guest of guests) await guest[Symbol.asyncDispose]();
  }
}

const inMemory = await Deno.makeTempDir({ dir: "/dev/shm", prefix: "nephos-perf-" });
const onDisk = await Deno.makeTempDir({ prefix: "nephos-perf-" });
const programs = await compilePrograms(inMemory);
try {
  const linux = { eventIdx: true, indirect: true };
  await measure("raw on tmpfs", inMemory, [...SINGLE, ...IN_PIECES], linux);
  await measure("raw in the page cache", onDisk, SINGLE, linux);
  await measure("raw on tmpfs, direct descriptors, flags", inMemory, SINGLE.slice(0, 4), {});
  await measure("raw on tmpfs, with interrupts", inMemory, SINGLE.slice(0, 4), {
    ...linux,
    interrupts: true,
  });
  await measure("raw on tmpfs, 2 queues", inMemory, DOUBLE, { ...linux, queues: 2 });
  await measure("raw in the page cache, 2 queues", onDisk, DOUBLE, { ...linux, queues: 2 });
  await measure("qcow2 on tmpfs", inMemory, SINGLE, linux, "qcow2");
} finally {
  await Deno.remove(inMemory, { recursive: true });
  await Deno.remove(onDisk, { recursive: true });
}

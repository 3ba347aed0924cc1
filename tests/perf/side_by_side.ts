/**
 * The same jobs on several guests in turn, and the table of what they cost.
 *
 * Benchmarks only. All guests are up at the same time, all but one asleep: they take turns job by job. A turn during which
 * anything else used the machine is taken again, a limited number of times.
 */
import type { IoGuest, Job, JobResult, Server } from "./io_guest.ts";
import { median } from "./client.ts";

/** A line of the table. */
export interface Row {
  readonly name: string;
  readonly job: Job;
  /** Before each turn, with the guest awake. */
  readonly prepare?: (guest: IoGuest) => Promise<void>;
}

/** One turn. `othersShare` is the part of one CPU that others used meanwhile, stolen time included. */
interface Turn extends JobResult {
  readonly othersShare: number;
}

/** The turns of a row, by server. */
export type Turns = Map<Server, Turn[]>;

const TICK_MS = 10;
/** A turn with less than this is as good as undisturbed. */
const QUIET_SHARE = 0.15;
const MOST_TRIES = 2;

/** Ticks all CPUs were busy or taken from us, and ticks a process used. */
function busyTicks(pid: number): { all: number; process: number } {
  const [, user, nice, system, , , irq, softirq, steal] = Deno.readTextFileSync("/proc/stat").split(/\s+/)
    .map(Number);
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).split(") ")[1].split(" ");
  return {
    all: user + nice + system + irq + softirq + steal,
    process: Number(fields[11]) + Number(fields[12]),
  };
}

async function takeTurn(guest: IoGuest, { job, prepare }: Row): Promise<Turn> {
  guest.wake();
  await prepare?.(guest);
  const before = busyTicks(guest.pid);
  const began = performance.now();
  const result = await guest.run(job);
  const after = busyTicks(guest.pid);
  const ticks = (performance.now() - began) / TICK_MS;
  guest.sleep();
  const others = after.all - before.all - (after.process - before.process);
  return { ...result, othersShare: Math.max(0, others - 1) / ticks };
}

/** Has every guest do every job `rounds` times after one to warm up. */
export async function takeTurns(
  guests: readonly IoGuest[],
  rows: readonly Row[],
  rounds: number,
): Promise<Turns[]> {
  for (const guest of guests) guest.sleep();
  const table: Turns[] = rows.map(() => new Map(guests.map((guest) => [guest.server, []])));
  for (let round = -1; round < rounds; round++) {
    for (const [index, row] of rows.entries()) {
      for (const guest of round % 2 === 0 ? guests : guests.toReversed()) {
        let best: Turn | undefined;
        for (let tries = 0; tries < MOST_TRIES && (best?.othersShare ?? 1) > QUIET_SHARE; tries++) {
          const turn = await takeTurn(guest, row);
          if (turn.errors > 0) throw new Error(`${guest.server}: ${turn.errors} errors in "${row.name}"`);
          if (turn.othersShare < (best?.othersShare ?? Infinity)) best = turn;
        }
        if (round >= 0) table[index].get(guest.server)!.push(best!);
      }
    }
  }
  for (const guest of guests) guest.wake();
  return table;
}

/** The turns that count: the undisturbed ones, or the least disturbed third. */
function counted(turns: readonly Turn[]): readonly Turn[] {
  const sorted = turns.toSorted((a, b) => a.othersShare - b.othersShare);
  const quiet = sorted.filter((turn) => turn.othersShare <= QUIET_SHARE);
  return quiet.length > 0 ? quiet : sorted.slice(0, Math.ceil(sorted.length / 3));
}

const COLUMNS: readonly [Server, string][] = [
  ["nephos", "nephos"],
  ["base", "base"],
  ["original", "original"],
  ["c", "C"],
];

/** Prints cycles per request, how much faster ours is, how often its guest had to notify, and how many turns were quiet. */
export function printTable(title: string, rows: readonly Row[], table: readonly Turns[]): void {
  const cell = (value: string) => value.padStart(10);
  const columns = COLUMNS.filter(([server]) => table.some((turns) => turns.has(server)));
  const others = columns.filter(([server]) => server !== "nephos");
  const head = [
    ...columns.flatMap(([, name]) => [name, ""]),
    ...others.flatMap(([, name]) => [`/${name}`, ""]),
    "kicks",
    "quiet",
  ];
  console.log(`\n${title}: cycles per request and speed of nephos relative to others (median, first decile)`);
  console.log("".padEnd(34) + head.map(cell).join(""));
  rows.forEach(({ name }, index) => {
    const turns = table[index];
    const figures = new Map(columns.map(([server]) => {
      const results = counted(turns.get(server) ?? []);
      const of = (pick: (turn: Turn) => number) => median(results.map(pick)) ?? NaN;
      return [server, [of((turn) => turn.median), of((turn) => turn.low)]];
    }));
    const ours = figures.get("nephos") ?? [NaN, NaN];
    const cells = [
      ...columns.flatMap(([server]) => figures.get(server)!.map((value) => value.toFixed(0))),
      ...others.flatMap(([server]) => figures.get(server)!.map((value, i) => (value / ours[i]).toFixed(2))),
    ];
    const kicks = median((turns.get("nephos") ?? []).map((result) => result.kicksPerRequest));
    const all = [...turns.values()].flat();
    const quiet = `${all.filter((turn) => turn.othersShare <= QUIET_SHARE).length}/${all.length}`;
    console.log(name.padEnd(34) + [...cells, kicks?.toFixed(3) ?? "-", quiet].map(cell).join(""));
  });
}

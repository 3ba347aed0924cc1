/**
 * The golden file of the state matrix: what the original answers in every cell.
 *
 * Tests only. Recorded by `REFERENCE_VMM=… deno run -A tests/conformance/golden_matrix.ts`.
 */
import { join } from "node:path";
import { ROOT } from "@tests/framework/programs.ts";
import { type ApiTarget, inDirectory, ProgramTarget, reach } from "./api_target.ts";
import { type Case, caseName, CASES, REACHABLE, type Reachable } from "./cases.ts";

/** One cell. */
export interface Cell {
  readonly status: number;
  /** Answer's text; left out of `vm.info`, `vmm.ping` and `vm.counters`, which have tests of their own. */
  readonly body?: string;
  /** State in `vm.info` afterwards; 404 as "absent", "ended" when the VMM has ended. */
  readonly after: string;
  readonly events: readonly string[];
}

/** Cells by case name and situation. */
export type GoldenMatrix = Record<string, Partial<Record<Reachable, Cell>>>;

const PATH = join(ROOT, "tests", "golden", "state_matrix.json");

/** What `target` does in one cell. It is left in whatever situation follows. */
export async function observe(target: ApiTarget, { method, operation, body }: Case): Promise<Cell> {
  const answer = await target.request(method, operation, inDirectory(body, target.directory));
  let after = "ended";
  if (operation !== "vmm.shutdown") {
    const info = await target.request("GET", "vm.info");
    after = info.status === 404 ? "absent" : JSON.parse(info.body).state;
  } else if (!(await target.ended())) {
    after = "failed";
  }
  const shown = method === "GET" && answer.status === 200
    ? undefined
    : answer.body.replaceAll(target.directory, "{dir}");
  return { status: answer.status, body: shown, after, events: await target.events() };
}

/** The golden file's contents. */
export function readGolden(): GoldenMatrix {
  return JSON.parse(Deno.readTextFileSync(PATH));
}

async function record(): Promise<GoldenMatrix> {
  const matrix: GoldenMatrix = {};
  let target = await ProgramTarget.start("reference");
  for (const situation of REACHABLE) {
    for (const item of CASES) {
      if (item.fatalToOriginal?.includes(situation)) continue;
      await reach(target, situation);
      const cell = await observe(target, item);
      (matrix[caseName(item)] ??= {})[situation] = cell;
      // What a device left behind (a migration, a socket) must not meet the next case.
      const fresh = cell.after === "ended" || item.operation === "vm.send-migration" ||
        item.operation === "vm.add-vsock";
      if (!fresh) continue;
      await target[Symbol.asyncDispose]();
      target = await ProgramTarget.start("reference");
    }
  }
  await target[Symbol.asyncDispose]();
  for (const item of CASES) {
    await using debugged = await ProgramTarget.start("reference", [
      ...["--gdb", "path={dir}/gdb", "--seccomp", "false"],
    ]);
    await reach(debugged, "breakpoint");
    matrix[caseName(item)].breakpoint = await observe(debugged, item);
  }
  return matrix;
}

if (import.meta.main) {
  Deno.writeTextFileSync(PATH, `${JSON.stringify(await record(), null, 2)}\n`);
}

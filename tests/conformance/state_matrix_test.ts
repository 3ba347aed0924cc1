/**
 * Every operation in every situation against what the original does there: status, messages, state after, events.
 *
 * In this process over a fake VM; the same on the built program where there is one.
 */
import assert from "node:assert/strict";
import { testWith } from "@tests/framework/programs.ts";
import { type ApiTarget, InProcessTarget, ProgramTarget, reach } from "./api_target.ts";
import { type Case, caseName, CASES, REACHABLE, type Reachable, RECORDED } from "./cases.ts";
import { type Cell, observe, readGolden } from "./golden_matrix.ts";

const golden = readGolden();

/** Compares one cell. */
async function check(target: ApiTarget, item: Case, situation: Reachable): Promise<void> {
  const expected = golden[caseName(item)][situation]!;
  await reach(target, situation);
  const observed = await observe(target, item);
  // Our errors name the file they are about: a listed difference.
  const actual = {
    ...observed,
    body: observed.body?.replace(/Cannot open kernel file \\"[^"]*\\"/, "Cannot open kernel file"),
  };
  if (item.better?.includes(situation)) {
    assert.ok(expected.status >= 500 && actual.status < 300, `${actual.status} ${actual.body}`);
    return;
  }
  const events = item.eventsVary?.includes(situation) ? actual.events : expected.events;
  if (!item.machine?.includes(situation)) {
    assert.deepEqual(actual, { body: undefined, ...expected, events });
  } else if (!target.real) {
    assertAsked(actual, item);
  } else if (!/is not supported/.test(actual.body ?? "")) {
    assert.deepEqual(actual, { body: undefined, ...expected, events });
  }
}

/** The fake machine does what it is asked: so a refusal can only be the API's. */
function assertAsked(cell: Cell, { operation }: Case): void {
  const unsupported = ["vm.send-migration", "vm.receive-migration"].includes(operation);
  const byMachine = /is not supported|Error from device manager|Memory manager error|Error from CPU manager/
    .test(cell.body ?? "");
  if (unsupported) assert.match(cell.body ?? "", /is not supported/);
  else assert.ok(cell.status < 300 || byMachine, `${cell.status} ${cell.body}`);
}

for (const situation of RECORDED) {
  for (const item of CASES) {
    if (item.fatalToOriginal?.includes(situation)) continue;
    Deno.test(`state matrix, in process: ${caseName(item)} when ${situation}`, async () => {
      await using target = new InProcessTarget();
      await check(target, item, situation);
    });
  }
}

for (const program of ["nephos", "cloud-hypervisor"] as const) {
  for (const situation of REACHABLE) {
    testWith(
      { kvm: true, binary: true },
      `state matrix, ${program}: every operation when ${situation}`,
      async () => {
        let target = await ProgramTarget.start(program);
        const differences: string[] = [];
        try {
          for (const item of CASES) {
            if (item.fatalToOriginal?.includes(situation)) continue;
            await check(target, item, situation).catch((error) => {
              differences.push(`${caseName(item)}: ${error.message}`);
            });
            if (item.operation !== "vmm.shutdown" && target.vm.exit === undefined) continue;
            await target[Symbol.asyncDispose]();
            target = await ProgramTarget.start(program);
          }
        } finally {
          await target[Symbol.asyncDispose]();
        }
        assert.equal(differences.join("\n"), "");
      },
    );
  }
}

Deno.test("state matrix: the golden file has every cell", () => {
  for (const item of CASES) {
    const wanted = RECORDED.filter((situation) => !item.fatalToOriginal?.includes(situation));
    assert.deepEqual(Object.keys(golden[caseName(item)] ?? {}), wanted, caseName(item));
  }
});

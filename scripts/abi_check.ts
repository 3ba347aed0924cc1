/**
 * Compares our structure tables, ioctl codes and constants with the kernel's and the C library's headers.
 *
 * A check of `deno task ok`: without arguments against the recorded values in `tests/golden/abi_x86_64.json`, which
 * needs no compiler; `--regenerate` asks the compiler, records what it says, and compares with that.
 *
 * @module
 */

import { join } from "node:path";
import { evaluate } from "./abi/compiler.ts";
import { collectFacts, type Fact } from "./abi/facts.ts";
import { report, ROOT } from "./source_tree.ts";

const GOLDEN = join(ROOT, "tests", "golden", "abi_x86_64.json");

if (import.meta.main) {
  const { facts, problems } = await collectFacts();
  if (Deno.args.includes("--regenerate")) {
    const values = await evaluate(facts);
    const sorted = Object.fromEntries([...values].sort(([a], [b]) => a < b ? -1 : 1));
    await Deno.writeTextFile(GOLDEN, JSON.stringify(sorted, null, 2) + "\n");
  }
  const golden: Record<string, number> = JSON.parse(await Deno.readTextFile(GOLDEN));
  const violations = [...problems, ...compare(facts, golden)];
  report("abi", violations, `${facts.length} sizes, offsets and constants agree with the headers`);
}

/** Differences between our values and the recorded ones, both ways. */
export function compare(facts: Fact[], golden: Record<string, number>): string[] {
  const found: string[] = [];
  const ours = new Set<string>();
  for (const { expression, value } of facts) {
    ours.add(expression);
    const theirs = golden[expression];
    if (theirs === undefined) found.push(`${expression}: not recorded; run "deno task abi --regenerate"`);
    else if (theirs !== value) found.push(`${expression}: ours ${value}, header ${theirs}`);
  }
  for (const expression of Object.keys(golden)) {
    if (!ours.has(expression)) {
      found.push(`${expression}: recorded but not used; run "deno task abi --regenerate"`);
    }
  }
  return found;
}

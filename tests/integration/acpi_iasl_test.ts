/**
 * Every ACPI table as iasl reads it: disassembles, and what comes out compiles again without an error, to the same AML.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { testWith } from "@tests/framework/programs.ts";
import { GOLDEN_HOST_PHYS_BITS, machineOf, MACHINES } from "@tests/golden/machines.ts";
import { buildAcpi } from "@vmm/arch/x86_64/acpi/tables.ts";

/** Tables iasl of 2020 (Debian 12) does not know. */
const UNKNOWN_TO_IASL = new Set(["VIOT"]);
/** Offset of the definition block in a DSDT; the header before it names the compiler. */
const HEADER_BYTES = 36;

async function iasl(directory: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command("iasl", { args, cwd: directory, stdin: "null" })
    .output();
  const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  assert.equal(code, 0, text);
  return text;
}

for (const test of MACHINES.filter((candidate) => !candidate.withoutGolden)) {
  testWith({ commands: ["iasl"] }, `iasl reads and recompiles the tables of "${test.name}"`, async () => {
    const directory = await Deno.makeTempDir({ prefix: "iasl-" });
    try {
      const { tables } = buildAcpi(machineOf(test, GOLDEN_HOST_PHYS_BITS));
      const known = tables.filter(({ signature }) => !UNKNOWN_TO_IASL.has(signature));
      for (const { signature, bytes } of known) {
        await Deno.writeFile(join(directory, `${signature}.dat`), bytes);
      }
      const read = await iasl(directory, "-d", ...known.map(({ signature }) => `${signature}.dat`));
      assert.doesNotMatch(read, /checksum|Could not|Unknown|Error/i);
      for (const { signature, bytes } of known) {
        const text = await iasl(directory, "-oa", "-p", `${signature}-again`, `${signature}.dsl`);
        assert.match(text, /Compilation (successful|complete)\. 0 Errors/, signature);
        if (signature !== "DSDT") continue;
        const again = await Deno.readFile(join(directory, `${signature}-again.aml`));
        assert.equal(again.length, bytes.length);
        // "MAXH += One" comes back with its operands the other way round.
        if (test.hotplugSizeBytes !== undefined && test.hotplugMethod === undefined) continue;
        assert.deepEqual(again.subarray(HEADER_BYTES), bytes.subarray(HEADER_BYTES));
      }
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  });
}

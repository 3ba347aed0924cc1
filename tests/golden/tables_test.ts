/**
 * Tables and boot structures of `machines.ts` against golden files, byte for byte.
 *
 * `tests/differential/tables_test.ts` proves the same machines equal to the original's. After a wanted change run that
 * one first, then this with NEPHOS_UPDATE_GOLDEN=1 and -A, and look at the difference.
 */
import assert from "node:assert/strict";
import { buildAcpi } from "@vmm/arch/x86_64/acpi/tables.ts";
import { planBootImage } from "@vmm/arch/x86_64/boot_image.ts";
import { RSDP_START, SMBIOS_START } from "@vmm/arch/x86_64/layout.ts";
import { bytesAsFile } from "@vmm/arch/x86_64/loader/kernel_file.ts";
import { tinyBzImage, tinyElf } from "@vmm/arch/x86_64/loader/testing/tiny_kernels.ts";
import { GOLDEN_HOST_PHYS_BITS, machineOf, MACHINES } from "./machines.ts";

/** The machine whose tables stand for all others that have the same. */
const BASE = "plain";
const UPDATE = Deno.env.has("NEPHOS_UPDATE_GOLDEN");

const cases = MACHINES.filter((test) => !test.withoutGolden);
const tablesOf = (name: string) => {
  const test = MACHINES.find((candidate) => candidate.name === name)!;
  return buildAcpi(machineOf(test, GOLDEN_HOST_PHYS_BITS)).tables;
};
const tableFile = (machine: string, signature: string) =>
  new URL(`acpi/${machine}/${signature}.dat`, import.meta.url);

function readIfThere(file: URL): Uint8Array | undefined {
  try {
    return Deno.readFileSync(file);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

const same = (a: Uint8Array, b: Uint8Array) => a.length === b.length && a.every((byte, i) => byte === b[i]);

for (const test of cases) {
  Deno.test(`ACPI tables of "${test.name}" equal the golden files`, () => {
    const base = tablesOf(BASE);
    const tables = tablesOf(test.name);
    const signatures = tables.map((table) => table.signature);
    assert.equal(new Set(signatures).size, signatures.length);
    for (const { signature, bytes } of tables) {
      const file = tableFile(test.name, signature);
      const inBase = base.find((table) => table.signature === signature);
      const stored = test.name === BASE || inBase === undefined || !same(inBase.bytes, bytes);
      if (UPDATE && stored) {
        Deno.mkdirSync(new URL(".", file), { recursive: true });
        Deno.writeFileSync(file, bytes);
      }
      const golden = readIfThere(file) ?? readIfThere(tableFile(BASE, signature));
      assert.ok(golden, `No golden ${signature}`);
      const at = golden.findIndex((byte, i) => byte !== bytes[i]);
      assert.ok(
        same(golden, bytes),
        `${signature} differs at byte ${at} of ${golden.length}, ours has ${bytes.length}`,
      );
    }
  });
}

/** Hex without trailing zeros, and the full length. */
function brief(bytes: Uint8Array): { length: number; hex: string } {
  const end = bytes.findLastIndex((byte) => byte !== 0) + 1;
  return {
    length: bytes.length,
    hex: [...bytes.subarray(0, end)].map((byte) => byte.toString(16).padStart(2, "0")).join(""),
  };
}

for (const test of cases) {
  Deno.test(`boot structures of "${test.name}" equal the golden file`, () => {
    const plan = planBootImage({
      kernel: bytesAsFile(test.kernel === "bzimage" ? tinyBzImage() : tinyElf()),
      initramfs: test.initramfsBytes === undefined ? undefined : { sizeBytes: test.initramfsBytes },
      cmdline: test.cmdline,
      machine: machineOf(test, GOLDEN_HOST_PHYS_BITS),
      smbios: test.smbios,
    });
    // The ACPI tables are in the files of the tests above; the RSDP is here.
    const others = plan.blobs.filter(({ gpa }) => gpa <= RSDP_START || gpa >= SMBIOS_START);
    const ours = {
      entry: plan.entry,
      segments: plan.segments,
      blobs: Object.fromEntries(others.map(({ gpa, bytes }) => [`0x${gpa.toString(16)}`, brief(bytes)])),
    };
    const file = new URL(`boot/${test.name}.json`, import.meta.url);
    if (UPDATE) {
      Deno.mkdirSync(new URL(".", file), { recursive: true });
      Deno.writeTextFileSync(file, JSON.stringify(ours, null, 2) + "\n");
    }
    assert.deepEqual(JSON.parse(JSON.stringify(ours)), JSON.parse(Deno.readTextFileSync(file)));
  });
}

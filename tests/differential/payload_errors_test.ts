/**
 * Payloads neither program can load: our chain of messages begins with the original's, and may say more at the end.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { scaled } from "@tests/framework/deadline.ts";
import { programPath, testWith } from "@tests/framework/programs.ts";
import { ArchError } from "@vmm/arch/x86_64/errors.ts";
import { MIB, planMemory } from "@vmm/arch/x86_64/layout.ts";
import { bytesAsFile } from "@vmm/arch/x86_64/loader/kernel_file.ts";
import { planPayload } from "@vmm/arch/x86_64/loader/payload.ts";
import {
  defaultSegments,
  tinyBzImage,
  tinyElf,
  xenNote,
} from "@vmm/arch/x86_64/loader/testing/tiny_kernels.ts";

const [CODE, NOTE] = defaultSegments();

function patched(bytes: Uint8Array, at: number, ...values: number[]): Uint8Array {
  const copy = bytes.slice();
  copy.set(values, at);
  return copy;
}

interface BadPayload {
  readonly kernel?: Uint8Array;
  readonly initramfsBytes?: number;
  readonly cmdline?: string;
}

const BAD: Record<string, BadPayload> = {
  "an empty file": { kernel: new Uint8Array(0) },
  "a text file": { kernel: new TextEncoder().encode("hello world".repeat(100)) },
  "an ELF without PVH note": { kernel: tinyElf({ segments: [CODE] }) },
  "an ELF with another note": { kernel: tinyElf({ note: xenNote(0x100_0000, 17) }) },
  "a truncated ELF header": { kernel: tinyElf().subarray(0, 40) },
  "truncated program headers": { kernel: tinyElf().subarray(0, 100) },
  "a truncated segment": { kernel: tinyElf().subarray(0, 0x1001) },
  "a big-endian ELF": { kernel: patched(tinyElf(), 5, 2) },
  "program headers of another size": { kernel: patched(tinyElf(), 54, 32) },
  "too many program headers": { kernel: patched(tinyElf(), 56, 0xff, 0xff) },
  "an entry below 1 MiB": { kernel: tinyElf({ entry: 0x8_0000 }) },
  "a segment outside RAM": { kernel: tinyElf({ segments: [{ ...CODE, paddr: 0x4000_0000 }, NOTE] }) },
  "a bzImage cut in its header": { kernel: tinyBzImage().subarray(0, 0x210) },
  "a bzImage cut behind its header": { kernel: tinyBzImage().subarray(0, 600) },
  "a zImage": { kernel: tinyBzImage({ loadflags: 0 }) },
  "a bzImage larger than RAM": { kernel: new Uint8Array([...tinyBzImage(), ...new Uint8Array(32 * MIB)]) },
  "an initramfs larger than RAM": { initramfsBytes: 40 * MIB },
  "a command line with a tab": { cmdline: "a\tb" },
  "a command line with an umlaut": { cmdline: "ä" },
  "a command line of 65,536 characters": { cmdline: "x".repeat(65_536) },
};

const SIZE_MIB = 32;

/** Messages of the original below "The VM could not boot". */
async function chainOfOriginal(payload: BadPayload): Promise<string[]> {
  const directory = await Deno.makeTempDir({ prefix: "payload-" });
  try {
    await Deno.writeFile(join(directory, "kernel"), payload.kernel ?? tinyElf());
    const args = ["--kernel", join(directory, "kernel"), "--memory", `size=${SIZE_MIB}M`];
    args.push("--console", "off", "--serial", "null");
    if (payload.cmdline !== undefined) args.push("--cmdline", payload.cmdline);
    if (payload.initramfsBytes !== undefined) {
      await Deno.writeFile(join(directory, "initramfs"), new Uint8Array(payload.initramfsBytes));
      args.push("--initramfs", join(directory, "initramfs"));
    }
    const signal = AbortSignal.timeout(scaled(120_000)); // it would run for ever if it accepted the payload
    const { code, stderr } = await new Deno.Command(programPath("reference")!, {
      args,
      stdin: "null",
      signal,
    })
      .output();
    assert.equal(code, 1);
    const text = new TextDecoder().decode(stderr);
    return [...text.matchAll(/^ {2}\d+: (.*)$/gm)].map(([, message]) => message).slice(2);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

function chainOfOurs(payload: BadPayload): readonly string[] {
  try {
    planPayload({
      kernel: bytesAsFile(payload.kernel ?? tinyElf()),
      initramfs: payload.initramfsBytes === undefined ? undefined : { sizeBytes: payload.initramfsBytes },
      cmdline: payload.cmdline,
      memory: planMemory({ zones: [{ id: "mem0", sizeBytes: SIZE_MIB * MIB }], physBits: 40 }),
      rsdpGpa: 0xa_0000,
    });
  } catch (error) {
    assert.ok(error instanceof ArchError, String(error));
    return error.chain();
  }
  return assert.fail("accepted");
}

for (const [what, payload] of Object.entries(BAD)) {
  testWith({ kvm: true, reference: true }, `${what} is refused as the original refuses it`, async () => {
    const theirs = await chainOfOriginal(payload);
    assert.ok(theirs.length > 0);
    assert.deepEqual(chainOfOurs(payload).slice(0, theirs.length), theirs);
  });
}

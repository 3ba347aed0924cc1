/**
 * Guest memory at the first instruction beside the original: the whole first MiB, kernel and initramfs, for every
 * machine of `tests/golden/machines.ts`. The guest spins at its entry, so nothing changes what the VMM wrote.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { eventually } from "@tests/framework/deadline.ts";
import { testWith } from "@tests/framework/programs.ts";
import { Vm } from "@tests/framework/vm.ts";
import { type MachineCase, machineOf, MACHINES } from "@tests/golden/machines.ts";
import { planBootImage } from "@vmm/arch/x86_64/boot_image.ts";
import { HIGH_RAM_START, MIB } from "@vmm/arch/x86_64/layout.ts";
import { bytesAsFile } from "@vmm/arch/x86_64/loader/kernel_file.ts";
import { tinyBzImage, tinyElf } from "@vmm/arch/x86_64/loader/testing/tiny_kernels.ts";

/** Physical address bits of this host. */
function hostPhysBits(): number {
  const text = Deno.readTextFileSync("/proc/cpuinfo");
  return Number(/^address sizes\s*: (\d+) bits physical/m.exec(text)![1]);
}

/** Bytes that repeat only every 251, so that a shifted copy shows. */
function pattern(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => i % 251);
}

/** Runs the original with a machine and gives its RAM file to `look` once the guest runs. */
async function withOriginal(
  test: MachineCase,
  kernel: Uint8Array,
  look: (ram: Deno.FsFile, vm: Vm) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "tables-" });
  const tpm = test.tpm ? await startTpm(directory) : undefined;
  try {
    await Deno.writeFile(join(directory, "kernel"), kernel);
    await Deno.writeFile(join(directory, "disk.img"), new Uint8Array(MIB));
    const args = ["--kernel", join(directory, "kernel"), "--console", "off", ...test.args];
    args.push("--serial", test.serial === false ? "off" : "null");
    if (test.cmdline !== undefined) args.push("--cmdline", test.cmdline);
    if (test.initramfsBytes !== undefined) {
      await Deno.writeFile(join(directory, "initramfs"), pattern(test.initramfsBytes));
      args.push("--initramfs", join(directory, "initramfs"));
    }
    await using vm = await Vm.start({
      program: "reference",
      args: args.map((argument) => argument.replaceAll("{dir}", directory)),
    });
    await eventually("a running VM", async () => await vm.api.state() === "Running");
    using ram = await openLowRam(vm);
    await look(ram, vm);
  } finally {
    tpm?.kill("SIGTERM");
    await tpm?.status;
    await Deno.remove(directory, { recursive: true });
  }
}

async function startTpm(directory: string): Promise<Deno.ChildProcess> {
  const control = join(directory, "tpm.sock");
  const child = new Deno.Command("swtpm", {
    args: ["socket", "--tpm2", "--tpmstate", `dir=${directory}`, "--ctrl", `type=unixio,path=${control}`],
    stdout: "null",
    stderr: "null",
  }).spawn();
  await eventually("swtpm's socket", () => Deno.stat(control).catch(() => undefined));
  return child;
}

/** The memory file that holds guest address 0: the one with the RSDP in it. */
async function openLowRam(vm: Vm): Promise<Deno.FsFile> {
  for (const [fd, target] of await vm.descriptors()) {
    if (!target.startsWith("/memfd:ch_ram")) continue;
    const file = await Deno.open(`/proc/${vm.pid}/fd/${fd}`);
    const bytes = await readAt(file, 0xa_0000, 8);
    if (new TextDecoder().decode(bytes) === "RSD PTR ") return file;
    file.close();
  }
  throw new Error("None of the original's memory files holds the ACPI tables");
}

async function readAt(file: Deno.FsFile, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  await file.seek(offset, Deno.SeekMode.Start);
  for (let done = 0; done < length;) {
    const count = await file.read(bytes.subarray(done));
    if (count === null) throw new Error(`Memory file ends at ${offset + done}`);
    done += count;
  }
  return bytes;
}

function assertSameBytes(actual: Uint8Array, expected: Uint8Array, gpa: number, what: string): void {
  const at = expected.findIndex((byte, i) => byte !== actual[i]);
  if (at < 0) return;
  const show = (bytes: Uint8Array) => [...bytes.subarray(at, at + 16)].map((b) => b.toString(16)).join(" ");
  assert.fail(
    `${what} differs at 0x${(gpa + at).toString(16)}: the original has ${show(actual)}, ours ${
      show(expected)
    }`,
  );
}

for (const test of MACHINES) {
  const needs = { kvm: true, reference: true, commands: test.tpm ? ["swtpm"] : [] };
  testWith(needs, `guest memory of "${test.name}" equals the original's`, async () => {
    const kernel = test.kernel === "bzimage" ? tinyBzImage() : tinyElf();
    const plan = planBootImage({
      kernel: bytesAsFile(kernel),
      initramfs: test.initramfsBytes === undefined ? undefined : { sizeBytes: test.initramfsBytes },
      cmdline: test.cmdline,
      machine: machineOf(test, hostPhysBits()),
      smbios: test.smbios,
    });
    await withOriginal(test, kernel, async (ram) => {
      const expected = new Uint8Array(HIGH_RAM_START);
      for (const blob of plan.blobs) expected.set(blob.bytes, blob.gpa);
      const actual = await readAt(ram, 0, HIGH_RAM_START);
      assertSameBytes(actual, expected, 0, "The first MiB");
      const files = { kernel, initramfs: pattern(test.initramfsBytes ?? 0) };
      for (const segment of plan.segments) {
        const source = files[segment.source].subarray(
          segment.fileOffset,
          segment.fileOffset + segment.lengthBytes,
        );
        const loaded = await readAt(ram, segment.gpa, segment.lengthBytes);
        assertSameBytes(loaded, source, segment.gpa, `The ${segment.source}`);
      }
    });
  });
}

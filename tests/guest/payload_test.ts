/** What is booted: kernels and initramfs files that are there and that are not, command lines, firmware. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { eventually } from "@tests/framework/deadline.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { HALT, pvhElf } from "@tests/framework/tiny_guest.ts";
import { tinyBzImage } from "@vmm/arch/x86_64/loader/testing/tiny_kernels.ts";
import { guestTest, startVm } from "./subject.ts";

const MIB = 2 ** 20;
const PVH_START_INFO = 0x6000;
const PVH_MAGIC = 0x336e_c578;
const COMMAND_LINE_GPA = 0x2_0000;

/** An ELF file whose only note is not the PVH entry. */
function elfWithoutPvhNote(): Uint8Array<ArrayBuffer> {
  const elf = pvhElf(HALT);
  const noteType = 64 + 2 * 56 + 8;
  elf[noteType] = 17;
  return elf;
}

guestTest("the guest finds the start information, the command line and the initramfs", async () => {
  await using puppet = await Puppet.make();
  const initramfs = Uint8Array.from({ length: 5 * MIB + 123 }, (_, i) => i % 251);
  await Deno.writeFile(join(puppet.directory, "initramfs"), initramfs);
  const cmdline = 'console=ttyS0 a=b "c d" e=~';
  await using vm = await startVm({
    args: [...puppet.args(), "--initramfs", join(puppet.directory, "initramfs"), "--cmdline", cmdline],
  });
  await puppet.started();
  const info = new DataView((await puppet.readMemory(PVH_START_INFO, 56)).buffer);
  assert.equal(info.getUint32(0, true), PVH_MAGIC);
  assert.equal(info.getBigUint64(24, true), BigInt(COMMAND_LINE_GPA));
  const text = new TextEncoder().encode(`${cmdline}\0`);
  assert.deepEqual(new Uint8Array(await puppet.readMemory(COMMAND_LINE_GPA, text.length)), text);
  assert.equal(info.getUint32(12, true), 1, "number of modules");
  const modules = new DataView((await puppet.readMemory(Number(info.getBigUint64(16, true)), 32)).buffer);
  const [gpa, size] = [Number(modules.getBigUint64(0, true)), Number(modules.getBigUint64(8, true))];
  assert.equal(size, initramfs.length);
  assert.equal(gpa, Math.floor((puppet.sizeBytes - size) / 4096) * 4096);
  assert.deepEqual(new Uint8Array(await puppet.readMemory(gpa, size)), initramfs);
  assert.equal((await vm.api.info()).config.payload.cmdline, cmdline);
});

for (const option of ["--kernel", "--firmware"]) {
  guestTest(`${option} boots an ELF file and a bzImage`, async () => {
    await using puppet = await Puppet.make();
    const args = puppet.args();
    args[args.indexOf("--kernel")] = option;
    {
      await using vm = await startVm({ args });
      await puppet.started();
      await puppet.beats();
      assert.equal(typeof (await vm.api.info()).config.payload[option.slice(2)], "string");
    }
    // Its code is where a bzImage's is loaded: writes a mark and halts.
    const mark = [0xc7, 0x05, 0x00, 0x00, 0x50, 0x00, 0x78, 0x56, 0x34, 0x12, 0xfa, 0xf4, 0xeb, 0xfc];
    await Deno.writeFile(puppet.kernel, tinyBzImage({ code: mark }));
    await using _vm = await startVm({ args });
    await eventually("the guest's mark", async () => {
      const bytes = await puppet.readMemory(0x50_0000, 4);
      return new DataView(bytes.buffer).getUint32(0, true) === 0x1234_5678;
    });
  });
}

interface Refusal {
  name: string;
  kernel: Uint8Array | null;
  initramfs?: number | null;
  cmdline?: string;
  /** The chain below "The VM could not boot". */
  chain: string[];
}

const NOT_LOADED = [
  "Cannot load the kernel into memory",
  "Kernel Loader: failed to load bzImage kernel image: Kernel Loader: Invalid bzImage",
  "Kernel Loader: Invalid bzImage",
];
const NO_FILE = "No such file or directory (os error 2)";
const GOOD = pvhElf(HALT);

const REFUSALS: Refusal[] = [
  { name: "a kernel that is not there", kernel: null, chain: ["Cannot open kernel file", NO_FILE] },
  { name: "an empty kernel", kernel: new Uint8Array(0), chain: NOT_LOADED },
  {
    name: "a kernel of text",
    kernel: new TextEncoder().encode("#!/bin/sh\n".repeat(1000)),
    chain: NOT_LOADED,
  },
  { name: "an ELF file that ends in its header", kernel: GOOD.slice(0, 40), chain: NOT_LOADED },
  { name: "an ELF file that ends in its code", kernel: GOOD.slice(0, 0x1004), chain: NOT_LOADED },
  { name: "an ELF file without a PVH note", kernel: elfWithoutPvhNote(), chain: ["Kernel lacks PVH header"] },
  {
    name: "an initramfs that is not there",
    kernel: GOOD,
    initramfs: null,
    chain: ["Cannot open initramfs file", NO_FILE],
  },
  {
    name: "an initramfs that does not fit",
    kernel: GOOD,
    initramfs: 65 * MIB,
    chain: ["Cannot determine initramfs load address", "Failed to compute initramfs address"],
  },
  {
    name: "a command line with a character beyond ASCII",
    kernel: GOOD,
    cmdline: "a=ü",
    chain: ["Cannot modify the kernel command line", "String contains a non-printable ASCII character."],
  },
  {
    name: "a command line that is too long",
    kernel: GOOD,
    cmdline: "x".repeat(70_000),
    chain: ["Cannot modify the kernel command line", "Inserting string would make command line too long."],
  },
];

for (const { name, kernel, initramfs, cmdline, chain } of REFUSALS) {
  guestTest(`refused: ${name}`, async () => {
    await using puppet = await Puppet.make();
    if (kernel === null) await Deno.remove(puppet.kernel);
    else await Deno.writeFile(puppet.kernel, kernel);
    const payload: Record<string, string> = { kernel: puppet.kernel };
    if (initramfs !== undefined) payload.initramfs = join(puppet.directory, "initramfs");
    if (typeof initramfs === "number") {
      await Deno.writeFile(payload.initramfs, new Uint8Array(0));
      await Deno.truncate(payload.initramfs, initramfs);
    }
    if (cmdline !== undefined) payload.cmdline = cmdline;
    const line = Object.entries(payload).filter(([key]) => key !== "kernel").flatMap((
      [key, value],
    ) => [`--${key}`, value]);
    await using process = await startVm({ api: false, args: [...puppet.args(), ...line] });
    assert.deepEqual(await process.waitForExit(), { code: 1, signal: null });

    await using vm = await startVm();
    await vm.api.mustPut("vm.create", puppet.config({ payload }));
    const response = await vm.api.put("vm.boot");
    assert.equal(response.status, 500, response.body);
    const messages = response.json<string[]>();
    // Nephos may say more behind it.
    const expected = ["Error from API", "The VM could not boot", ...chain];
    assert.deepEqual(messages.slice(0, expected.length), expected);
    for (const message of messages.slice(1)) {
      assert.ok(process.stderr.text.includes(`: ${message}\n`), `${message} in ${process.stderr.text}`);
    }
    // The instance is there, in state Created: it can be shut down and the next one boots.
    assert.equal((await vm.api.info()).state, "Created");
    await vm.api.mustPut("vm.delete");
    await Deno.writeFile(puppet.kernel, pvhElf(HALT));
    await vm.api.mustPut("vm.create", puppet.config());
    await vm.api.mustPut("vm.boot");
    assert.equal((await vm.api.info()).state, "Running");
  });
}

/**
 * What Linux finds on the machine, beside the original: the same guest and configuration on both programs, everything
 * compared that procfs, sysfs and the kernel's log say about hardware. All of it is equal.
 * SMBIOS, which the guest kernel does not read, is compared in `tables_test.ts`.
 * NEPHOS_KEEP_VIEWS names a directory in which both views are kept.
 */
import assert from "node:assert/strict";
import { BOOT_TIMEOUT_MS } from "@tests/framework/deadline.ts";
import { Guest } from "@tests/framework/guest.ts";
import { TempDisk } from "@tests/framework/images.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { type ProgramName, testWith } from "@tests/framework/programs.ts";
import { LINUX_VIEW_SCRIPT, type LinuxView, parseLinuxView } from "./linux_view.ts";

const MIB = 2 ** 20;
const NEEDS = { kvm: true, root: true, binary: true, reference: true, linux: true, commands: ["ip"] };
/** The script starts some dozens of programs after the boot. */
const SCRIPT_TIMEOUT_MS = 4 * BOOT_TIMEOUT_MS;

async function viewOf(
  program: ProgramName,
  files: Record<string, string>,
  netns: string,
): Promise<LinuxView> {
  // What the guest finds goes to a disk: quicker than a console by far.
  await using result = await TempDisk.empty(2 * MIB);
  await using guest = await Guest.start({
    program,
    netns,
    script: LINUX_VIEW_SCRIPT,
    cpus: "boot=2,max=4,topology=2:2:1:1",
    memory: "size=128M,shared=on",
    args: [
      ...["--disk", `path=${result.path},image_type=raw,serial=result`],
      `path=${files.pattern},image_type=raw,readonly=on,serial=a-serial-number,num_queues=2,queue_size=64`,
      ...["--net", "tap=tap0,mac=52:54:00:01:02:03", "tap=tap1,mac=52:54:00:01:02:04,num_queues=4,mtu=1400"],
      ...["--balloon", "size=0,deflate_on_oom=on,free_page_reporting=on", "--pmem", `file=${files.pmem}`],
      ...["--rng", "src=/dev/urandom", "--watchdog", "--pvpanic"],
    ],
  });
  const { code, output } = await guest.scriptEnd(SCRIPT_TIMEOUT_MS);
  assert.equal(code, 0, output);
  assert.deepEqual(await guest.vm.waitForExit(), { code: 0, signal: null });
  const text = await Deno.readTextFile(result.path);
  const keep = Deno.env.get("NEPHOS_KEEP_VIEWS");
  if (keep) await Deno.writeTextFile(`${keep}/${program}`, text.replace(/\0+$/, ""));
  return parseLinuxView(text);
}

testWith(NEEDS, "Linux finds what it finds with the original", async () => {
  await using network = await NetworkNamespace.create();
  await network.addTap("tap0");
  await network.addTap("tap1", { queues: 2 });
  await using pattern = await TempDisk.pattern(MIB);
  await using pmem = await TempDisk.empty(4 * MIB);
  const files = { pattern: pattern.path, pmem: pmem.path };
  const theirs = await viewOf("reference", files, network.name);
  const ours = await viewOf("nephos", files, network.name);
  const differing = [...new Set([...theirs.keys(), ...ours.keys()])].flatMap((section) => {
    const [expected, actual] = [theirs.get(section) ?? "", ours.get(section) ?? ""];
    return expected === actual ? [] : [`${section}\n--- original\n${expected}--- Nephos\n${actual}`];
  });
  assert.equal(differing.join("\n"), "");
});

/**
 * Programs that end at once, beside the original: exit code and all they write, the log's lines apart.
 */
import assert from "node:assert/strict";
import { type ProgramName, programPath, testWith } from "@tests/framework/programs.ts";

/** Command lines by which no VM comes to run; `@` is an empty directory. */
const ENDS: readonly (readonly string[])[] = [
  ["--version"],
  ["-V"],
  ["foo"],
  ["--foo"],
  ["--kernel"],
  ["--cpus", "boot=1"],
  ["--kernel", "@/absent"],
  ["--kernel", "/dev/null", "--console", "off"],
  ["--kernel", "@/absent", "--disk", "x=1"],
  ["--kernel", "@/absent", "--disk", "path=@/absent"],
  ["--kernel", "@/absent", "--firmware", "@/absent"],
  ["--kernel", "@/absent", "--memory", "size=0"],
  ["--kernel", "@/absent", "--cpus", "boot=2,max=1"],
  ["--kernel", "@/absent", "--net", "mac=zz"],
  ["--kernel", "@/absent", "--memory-zone", "id=a"],
  ["--kernel", "@/absent", "--seccomp", "foo"],
  ["--kernel", "@/absent", "--event-monitor", "path=@/absent/events"],
  ["--api-socket", "path=@/absent/api.sock"],
  ["--api-socket", "@/api.sock", "--log-file", "@/absent/log"],
  ["--api-socket", "@/api.sock", "--log-format", "{"],
  ["--event-monitor", "x"],
  ["--restore", "source_url=file://@/absent"],
  ["--restore", "source_url=@/absent"],
];

async function end(program: ProgramName, args: readonly string[]): Promise<unknown> {
  const directory = await Deno.makeTempDir({ prefix: "nephos-ends-" });
  try {
    const { code, stdout, stderr } = await new Deno.Command(programPath(program)!, {
      args: args.map((word) => word.replaceAll("@", directory)),
      cwd: directory,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      env: { RUST_BACKTRACE: "0" },
    }).output();
    const plain = (bytes: Uint8Array) => new TextDecoder().decode(bytes).replaceAll(directory, "@");
    return {
      code,
      stdout: plain(stdout),
      stderr: plain(stderr).replaceAll(/^cloud-hypervisor: .*\r?\n/gm, ""),
    };
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

testWith(
  { kvm: true, binary: true, reference: true },
  "programs that end at once write what the original writes",
  async () => {
    for (const args of ENDS) {
      const [ours, theirs] = await Promise.all([end("cloud-hypervisor", args), end("reference", args)]);
      assert.deepEqual(ours, theirs, args.join(" "));
    }
  },
);

/**
 * The log as an operator meets it: what a guest can cause a thousand times, and a file that is rotated by another program.
 *
 * @module
 */
import assert from "node:assert/strict";
import { programPath, testWith } from "@tests/framework/programs.ts";
import { hex, pvhElf } from "@tests/framework/tiny_guest.ts";
import { Vm } from "@tests/framework/vm.ts";

/** Writes 1,000 codes to port 0x80, then asks for power off. */
const FLOOD = hex("ba80000000 b055 b9e8030000 ee e2fd ba00060000 b034 ee f4");

testWith(
  { binary: true, kvm: true },
  "what a guest floods the log with is limited, and that is told",
  async () => {
    const directory = await Deno.makeTempDir({ prefix: "nephos-log-" });
    try {
      await Deno.writeFile(`${directory}/kernel`, pvhElf(FLOOD));
      const file = `${directory}/log`;
      const { code, stderr } = await new Deno.Command(programPath("nephos")!, {
        args: ["--kernel", `${directory}/kernel`, "--memory", "size=64M", "--log-file", file]
          .concat(["--serial", "null", "--console", "off"]),
        stdin: "null",
      }).output();
      assert.equal(code, 0, new TextDecoder().decode(stderr));
      const lines = (await Deno.readTextFile(file)).trimEnd().split("\n");
      assert.ok(lines.every((line) => line.includes("[Debug I/O port: Kernel code 0x55]")), lines.join("\n"));
      assert.ok(lines.length < 100, `${lines.length} lines`);
      // Nothing of its kind followed: the program's end brings out the count.
      assert.match(lines.at(-1)!, /seconds \(\d+ more like this not shown\)$/);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
);

testWith(
  { binary: true },
  "a log file may be copied and truncated, or renamed, while it is written to",
  async () => {
    await using vm = await Vm.start({ program: "nephos", args: ["-v", "--log-file", "{dir}/log"] });
    const file = `${vm.directory}/log`;
    const boot = () => vm.api.request("PUT", "vm.boot");
    const refusals = async (path: string) => (await Deno.readTextFile(path)).match(/ -- vm\.boot: /g)?.length;
    await boot();
    await Deno.truncate(file);
    await boot();
    assert.match(await Deno.readTextFile(file), /^cloud-hypervisor: +[\d.]+s: <main> INFO:/);
    assert.equal(await refusals(file), 1);
    await Deno.rename(file, `${file}.1`);
    await boot();
    assert.equal(await refusals(`${file}.1`), 2);
  },
);

testWith(
  { binary: true },
  "a log that cannot be set up is told of on standard error, and there once",
  async () => {
    const cases = {
      "--log-format={": "Error parsing logger format\n  1: Unterminated '{' in format string\n",
      "--log-file=/nonexistent/log": "Error creating log file\n  1: No such file or directory (os error 2)\n",
    };
    for (const [option, chain] of Object.entries(cases)) {
      const { code, stderr } = await new Deno.Command(programPath("cloud-hypervisor")!, {
        args: [option],
        stdin: "null",
      }).output();
      assert.equal(code, 1);
      const head = "Error: Cloud Hypervisor exited with the following chain of errors:\n  0: ";
      assert.equal(new TextDecoder().decode(stderr), head + chain);
    }
  },
);

testWith({ binary: true }, "a line names the line of the sources that wrote it", async () => {
  await using vm = await Vm.start({ program: "nephos", args: ["-v", "--log-file", "{dir}/log"] });
  await vm.api.request("PUT", "vm.boot");
  const lines = (await Deno.readTextFile(`${vm.directory}/log`)).trimEnd().split("\n");
  assert.ok(lines.length >= 2, lines.join("\n"));
  for (const line of lines) {
    const [, path, number] = / [A-Z]+:(src\/[\w/]+\.ts):(\d+) -- /.exec(line) ?? assert.fail(line);
    const source = (await Deno.readTextFile(new URL(`../../${path}`, import.meta.url))).split("\n");
    assert.match(source[Number(number) - 1], /\blog\./, line);
  }
});

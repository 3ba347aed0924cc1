import assert from "node:assert/strict";
import { inspect } from "node:util";
import { REMOTE_COMMANDS } from "./commands.ts";
import { readRemoteArguments } from "./remote_arguments.ts";

async function printed(...argv: string[]): Promise<{ text: string; exitCode: number }> {
  const result = await readRemoteArguments(argv, "ch-remote");
  assert(result.kind === "print", inspect(result));
  return result;
}

Deno.test("no arguments print help with exit code 2", async () => {
  const { text, exitCode } = await printed();
  assert.equal(exitCode, 2);
  assert.match(text, /^Control a running VMM\.\n\nUsage: ch-remote \[OPTIONS\] <COMMAND>\n/);
  assert.deepEqual(await printed("--help"), { kind: "print", text, exitCode: 0 });
  for (const line of text.split("\n")) assert.ok(line.length <= 80, line);
});

Deno.test("commands take their word and options in any order", async () => {
  for (const argv of [["unix:/a", "--local"], ["--local", "unix:/a"]]) {
    const result = await readRemoteArguments(["--api-socket", "/s", "send-migration", ...argv], "ch-remote");
    assert(result.kind === "command", inspect(result));
    assert.equal(result.word, "unix:/a");
    assert.equal(result.options.has("local"), true);
  }
  const create = await readRemoteArguments(["--api-socket", "/s", "create"], "ch-remote");
  assert(create.kind === "command");
  assert.equal(create.word, "-");
});

Deno.test("usage errors", async () => {
  const first = async (...argv: string[]) => {
    const { text, exitCode } = await printed(...argv);
    assert.equal(exitCode, 2);
    return text.split("\n")[0];
  };
  assert.equal(await first("foo"), "error: unrecognized subcommand 'foo'");
  assert.equal(await first("--foo"), "error: unexpected argument '--foo' found");
  assert.equal(
    await first("--api-socket", "x"),
    "error: 'ch-remote' requires a subcommand but one was not provided",
  );
  assert.equal(await first("info", "x"), "error: unexpected argument 'x' found");
  assert.equal(await first("info", "--api-socket", "x"), "error: unexpected argument '--api-socket' found");
  assert.equal(await first("snapshot", "a", "b"), "error: unexpected argument 'b' found");
  assert.equal(
    await first("resize", "--cpus"),
    "error: a value is required for '--cpus <cpus>' but none was supplied",
  );
  assert.equal(
    (await printed("resize-zone", "--id", "a")).text,
    "error: the following required arguments were not provided:\n  --size <size>\n\n" +
      "Usage: ch-remote resize-zone --id <id> --size <size>\n\nFor more information, try '--help'.\n",
  );
  assert.equal(
    (await printed("snapshot")).text,
    "error: the following required arguments were not provided:\n  <snapshot_config>\n\n" +
      "Usage: ch-remote snapshot <snapshot_config>\n\nFor more information, try '--help'.\n",
  );
});

Deno.test("help of a command", async () => {
  const { text } = await printed("help", "add-net");
  assert.deepEqual(await printed("add-net", "--help"), { kind: "print", text, exitCode: 0 });
  assert.match(text, /offload_csum=on\|off/);
  for (const line of text.split("\n")) assert.ok(line.length <= 80, line);
});

Deno.test("help of every command fits 80 columns under both names", async () => {
  for (const program of ["ch-remote", "nephos remote"]) {
    for (const { name } of REMOTE_COMMANDS) {
      const result = await readRemoteArguments([name, "--help"], program);
      assert(result.kind === "print" && result.exitCode === 0, name);
      for (const line of result.text.split("\n")) assert.ok(line.length <= 80, line);
    }
  }
});

Deno.test("versions", async () => {
  assert.equal((await printed("--version")).text, "ch-remote v54.0.0\n");
  const own = await readRemoteArguments(["-V"], "nephos remote");
  assert(own.kind === "print");
  assert.match(own.text, /^nephos remote \d+\.\d+\.\d+\n$/);
});

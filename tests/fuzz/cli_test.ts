/**
 * Properties of the command line under random values. `FUZZ_MS` is the time to spend, a fifth of a second unless set.
 */
import assert from "node:assert/strict";
import { VmConfigSchema } from "@schemas/api/vm_config.ts";
import { readJson } from "@schemas/json/reader.ts";
import { writeJson } from "@schemas/json/writer.ts";
import { parseCommandLine } from "@vmm/cli/command_line.ts";
import { OPTION_HELP } from "@vmm/cli/option_help.ts";
import { OptionError } from "@vmm/cli/option_error.ts";
import {
  readBig,
  readHex16,
  readI32,
  readIntegers,
  readMac,
  readPairs,
  readSize,
  readStrings,
  readToggle,
  readTuples,
  withoutQuotes,
} from "@vmm/cli/option_parser.ts";
import { type OptionRow, OPTIONS } from "@vmm/cli/options.ts";
import { messagesOf } from "@vmm/errors/vmm_error.ts";
import { remoteBody } from "@vmm/remote/bodies.ts";
import { readRemoteArguments } from "@vmm/remote/remote_arguments.ts";
import { COMMAND_PARAMETERS } from "@vmm/remote/remote_help.ts";
import { Random } from "@tests/differential/bodies.ts";
import { randomOptionValue } from "@tests/differential/option_values.ts";

const FUZZ_MS = Number(Deno.env.get("FUZZ_MS") ?? 200);
const SEED = Number(Deno.env.get("FUZZ_SEED") ?? 1);

/** Calls `step` with random numbers until the time is over; names the seed when it fails. */
async function forSomeTime(step: (random: Random) => Promise<void>): Promise<void> {
  const random = new Random(SEED);
  const end = performance.now() + FUZZ_MS;
  let steps = 0;
  try {
    do {
      await step(random);
      steps++;
    } while (performance.now() < end);
  } catch (error) {
    throw new Error(`Failed at step ${steps} of FUZZ_SEED=${SEED}`, { cause: error });
  }
}

const rows: readonly OptionRow[] = OPTIONS;

/** A random command line; what `--config` names is not read. */
function randomArguments(random: Random): string[] {
  const argv = ["--kernel", "k"];
  for (let options = random.below(6); options > 0; options--) {
    const row = random.pick(rows);
    if (row.name === "config" || row.name === "version" || row.name === "kernel") continue;
    argv.push(row.arity === "count" ? `-${row.short}` : `--${row.name}`);
    const table = OPTION_HELP[row.name as keyof typeof OPTION_HELP].parameters;
    if (row.arity === "flag" || row.arity === "count" || random.chance(0.05)) continue;
    argv.push(
      table !== undefined && random.chance(0.95)
        ? randomOptionValue(table, random)
        : random.pick(row.choices ?? ["a", "", "-", "--"]),
    );
  }
  return argv;
}

Deno.test("a random command line runs, is refused with a chain, or is a usage error", async () => {
  await forSomeTime(async (random) => {
    const argv = randomArguments(random);
    const result = await parseCommandLine(argv, random.pick(["nephos", "cloud-hypervisor"] as const));
    const label = JSON.stringify(argv);
    switch (result.kind) {
      case "run":
        assert.ok(result.vm !== undefined, label);
        break;
      case "fail":
        assert.ok(
          messagesOf(result.error).length > 0 && messagesOf(result.error).every((text) => text !== ""),
          label,
        );
        break;
      case "print":
        assert.equal(result.exitCode, 2, label);
        assert.match(result.text, /^error: /, label);
        break;
      default:
        assert.fail(label);
    }
  });
});

const withoutNumbers = (text: string) =>
  text.replace(/"(iommufd_fd|fd)":-?\d+/g, '"$1":n').replace(/"fds":\[[-\d,]*\]/g, '"fds":[n]');

Deno.test("a configuration that was read can be written as JSON and reads the same", async () => {
  await forSomeTime(async (random) => {
    const argv = randomArguments(random);
    const result = await parseCommandLine(argv, "cloud-hypervisor");
    if (result.kind !== "run" || result.vm === undefined) return;
    const text = writeJson(VmConfigSchema, result.vm);
    const again = readJson(VmConfigSchema, text);
    assert.ok(again.ok, `${JSON.stringify(argv)}: ${text}`);
    // Descriptor numbers of JSON are never used, so they read as none.
    assert.equal(withoutNumbers(writeJson(VmConfigSchema, again.value)), withoutNumbers(text));
  });
});

const READERS = [
  readBig,
  readHex16,
  readI32,
  readMac,
  readSize,
  readStrings,
  readToggle,
  readTuples,
  withoutQuotes,
];

Deno.test("readers of values take any text", async () => {
  const alphabet = [
    '"',
    "[",
    "]",
    ",",
    "=",
    "@",
    "-",
    "+",
    " ",
    "0",
    "9",
    "K",
    "G",
    "path",
    "0x",
    "é",
    "\0",
    "\n",
  ];
  await forSomeTime(async (random) => {
    const text = Array.from({ length: random.below(20) }, () => random.pick(alphabet)).join("");
    for (const read of READERS) read(text);
    await Promise.resolve();
    const list = readIntegers(text, 100);
    assert.ok(list === undefined || list.every((item) => item <= 100), text);
    try {
      readPairs(text, (key) => key === "path" ? true : undefined);
    } catch (error) {
      assert.ok(error instanceof OptionError, text);
    }
  });
});

Deno.test("random words are no exception", async () => {
  const words = [
    "--",
    "-",
    "-v",
    "-V",
    "-h",
    "--disk",
    "--rtc",
    "--net=",
    "",
    "a",
    "--seccomp",
    "é",
    "--no-shutdown=1",
    "--api-socket",
    "--cpus",
    "--loca",
    "help",
    "info",
    "inf",
    "resize",
    "send-migration",
  ];
  await forSomeTime(async (random) => {
    const argv = Array.from({ length: random.below(6) }, () => random.pick(words));
    await parseCommandLine(argv, "cloud-hypervisor");
    const remote = await readRemoteArguments(argv, "ch-remote");
    if (remote.kind === "print") assert.ok(remote.text.endsWith("\n"), JSON.stringify(argv));
  });
});

Deno.test("a remote argument makes a JSON body or is refused with a chain", async () => {
  const commands = Object.keys(COMMAND_PARAMETERS);
  await forSomeTime(async (random) => {
    const name = random.pick(commands);
    const word = randomOptionValue(COMMAND_PARAMETERS[name], random);
    await Promise.resolve();
    try {
      const { body, fds } = remoteBody(name, { word, options: new Map() }, () => new Uint8Array());
      JSON.parse(new TextDecoder().decode(body));
      for (const fd of fds) assert.ok(Number.isInteger(fd), `${name} ${word}`);
    } catch (error) {
      assert.ok(
        error instanceof Error && !(error instanceof TypeError || error instanceof SyntaxError),
        `${name} ${word}`,
      );
      assert.ok(messagesOf(error).length > 1, `${name} ${word}`);
    }
  });
});

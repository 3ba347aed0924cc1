/**
 * Parsing of the whole command line.
 *
 * L6, main isolate. Free of zod, help texts and option tables: `--api-socket X` alone loads nothing else; the rest is
 * imported when needed. Source: spec/cli.md §2, §3.
 */
import { VmmError } from "@vmm/errors/vmm_error.ts";
import { scanArguments } from "./arguments.ts";
import type { CommandLine, FailCommand, Personality, PrintCommand, RunCommand } from "./command_result.ts";
import { type OptionGroup, type OptionName, optionRow, optionsFor } from "./options.ts";
import { logOptions, type OptionValues, single, vmmOptions } from "./vmm_options.ts";

/** `ch-remote`, `cloud-hypervisor` or the program's own personality, by the name it was called. */
export function personalityOf(programName: string): Personality {
  const base = programName.slice(programName.lastIndexOf("/") + 1);
  return base === "ch-remote" || base === "cloud-hypervisor" ? base : "nephos";
}

const print = (text: string, exitCode = 0): PrintCommand => ({
  kind: "print",
  text,
  stream: exitCode === 0 ? "stdout" : "stderr",
  exitCode,
});

/** Options that need one of the payload options beside them. */
const needsPayload = (group: OptionGroup) => group === "vm" || group === "payload-part";

/** A VM's command line that is split but contradicts itself; undefined when it does not. */
async function contradiction(
  program: string,
  values: OptionValues,
  extras: boolean,
): Promise<PrintCommand | undefined> {
  const given = [...values.keys()].flatMap((name) => optionRow(name) ?? []);
  const options = optionsFor(extras);
  const payloads = options.filter(({ group }) => group === "payload");
  const subject = { program, summary: "[OPTIONS]", options };
  const hasPayload = given.some(({ group }) => group === "payload");
  if (!hasPayload && given.some(({ group }) => needsPayload(group))) {
    const { optionNotation, requiredErrorText, USAGE_EXIT_CODE } = await import("./usage_error.ts");
    const oneOf = `<${payloads.map(optionNotation).sort().join("|")}>`;
    return print(requiredErrorText(subject, [oneOf], given.map(({ name }) => name)), USAGE_EXIT_CODE);
  }
  const file = given.find(({ name }) => name === "config");
  const other = given.find((row) => row !== file && (row.group === "payload" || needsPayload(row.group)));
  if (file === undefined || other === undefined) return undefined;
  const { conflictErrorText, USAGE_EXIT_CODE } = await import("./usage_error.ts");
  return print(conflictErrorText(subject, file, other), USAGE_EXIT_CODE);
}

/** Options that make a VM to create and boot; the other payload options only belong to one. */
const BOOTABLE: readonly OptionName[] = ["kernel", "firmware", "config"];

async function run(values: OptionValues): Promise<RunCommand | FailCommand> {
  try {
    const vmm = vmmOptions(values);
    const restoreText = single(values, "restore");
    if (BOOTABLE.some((name) => values.has(name))) {
      const { vmConfigOf } = await import("./to_config.ts");
      return { kind: "run", vmm, vm: await vmConfigOf(values) };
    }
    if (restoreText === undefined) return { kind: "run", vmm };
    const { restoreConfigOf } = await import("./to_config.ts");
    return { kind: "run", vmm, restore: restoreConfigOf(restoreText) };
  } catch (error) {
    if (!(error instanceof VmmError)) throw error;
    return { kind: "fail", error, log: logOptions(values) };
  }
}

async function parseVmm(argv: readonly string[], program: string, extras: boolean): Promise<CommandLine> {
  const options = optionsFor(extras);
  const scan = scanArguments(argv, options);
  if (scan.kind === "help") {
    const { vmmHelp } = await import("./help.ts");
    return print(vmmHelp(program, extras));
  }
  if (scan.kind === "fault") {
    const { usageErrorText, USAGE_EXIT_CODE } = await import("./usage_error.ts");
    return print(usageErrorText({ program, summary: "[OPTIONS]", options }, scan.fault), USAGE_EXIT_CODE);
  }
  if (scan.values.size === 0) {
    const [{ vmmHelp }, { USAGE_EXIT_CODE }] = await Promise.all([
      import("./help.ts"),
      import("./usage_error.ts"),
    ]);
    return print(vmmHelp(program, extras), USAGE_EXIT_CODE);
  }
  const refused = await contradiction(program, scan.values, extras);
  if (refused !== undefined) return refused;
  if (scan.values.has("version")) {
    const { vmmVersion } = await import("./help.ts");
    return print(vmmVersion(extras, scan.values.has("verbose")));
  }
  return run(scan.values);
}

/** Sub-commands of the personality `nephos`; undefined when `word` is none. */
async function parseCommand(word: string, argv: readonly string[]): Promise<CommandLine | undefined> {
  switch (word) {
    case "remote":
      return { kind: "remote", argv, program: "nephos remote" };
    case "openapi": {
      const { openApiCommand } = await import("./commands.ts");
      return openApiCommand(argv);
    }
    case "completion": {
      const { completionCommand } = await import("./commands.ts");
      return completionCommand(argv);
    }
    default:
      return undefined;
  }
}

/**
 * What the command line `argv` (without the program's name) asks for. Reads files only to validate: the one of `--config`, and
 * whether paths of Landlock rules and of shared memory exist. Never throws for anything a user can type.
 */
export async function parseCommandLine(
  argv: readonly string[],
  personality: Personality,
): Promise<CommandLine> {
  if (personality === "ch-remote") return { kind: "remote", argv, program: "ch-remote" };
  const extras = personality === "nephos";
  if (extras && argv.length > 0) {
    const command = await parseCommand(argv[0], argv.slice(1));
    if (command !== undefined) return command;
  }
  return parseVmm(argv, personality, extras);
}

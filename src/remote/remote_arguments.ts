/**
 * The command line of the remote client.
 *
 * L6, main isolate; texts are loaded only for help and errors. Source: spec/cli.md §7; order of errors as the original has it.
 */
import { COMPATIBLE_VERSION, NEPHOS_VERSION } from "@vmm/base/version.ts";
import { type OptionSpec, scanArguments } from "@vmm/cli/arguments.ts";
import { REMOTE_COMMANDS, type RemoteCommand } from "./commands.ts";

/** Options before the command. */
const GLOBAL_OPTIONS: readonly OptionSpec[] = [
  { name: "api-socket", arity: "one" },
  { name: "dbus-object-path", arity: "one" },
  { name: "dbus-service-name", arity: "one" },
  { name: "dbus-system-bus", arity: "flag" },
  { name: "version", short: "V", arity: "flag" },
];

/** A command to carry out, or a text to print. */
export type RemoteInvocation =
  | {
    readonly kind: "command";
    readonly command: RemoteCommand;
    readonly word: string | undefined;
    readonly options: ReadonlyMap<string, readonly string[]>;
    readonly global: ReadonlyMap<string, readonly string[]>;
  }
  | { readonly kind: "print"; readonly text: string; readonly exitCode: number };

const USAGE_EXIT_CODE = 2;
const print = (text: string, exitCode = 0): RemoteInvocation => ({ kind: "print", text, exitCode });

/** Reads the arguments after a command's name. */
async function readCommand(
  program: string,
  command: RemoteCommand,
  argv: readonly string[],
  global: ReadonlyMap<string, readonly string[]>,
): Promise<RemoteInvocation> {
  const allowed = command.options ?? [];
  const options = new Map<string, readonly string[]>();
  let word: string | undefined;
  for (let rest = argv; rest.length > 0;) {
    const scan = scanArguments(rest, allowed, command.argument !== undefined && word === undefined);
    if (scan.kind !== "parsed") {
      const [help, usage] = await Promise.all([
        import("./remote_help.ts"),
        import("@vmm/cli/usage_error.ts"),
      ]);
      if (scan.kind === "help") return print(help.commandHelp(program, command));
      const subject = {
        program: `${program} ${command.name}`,
        summary: help.commandSummary(command),
        options: allowed,
        takesWord: command.argument !== undefined,
      };
      return print(usage.usageErrorText(subject, scan.fault), USAGE_EXIT_CODE);
    }
    for (const [name, values] of scan.values) options.set(name, values);
    word ??= scan.rest[0];
    rest = scan.rest.slice(1);
  }
  const missing = (command.required ?? []).filter((name) => !options.has(name));
  const lacksWord = command.argument !== undefined && command.argument.default === undefined &&
    word === undefined;
  if (missing.length > 0 || lacksWord) {
    const [help, usage] = await Promise.all([import("./remote_help.ts"), import("@vmm/cli/usage_error.ts")]);
    const subject = { program: `${program} ${command.name}`, summary: "", options: allowed };
    const written = allowed.filter(({ name }) => missing.includes(name)).map(usage.optionNotation);
    if (lacksWord) written.push(help.argumentNotation(command));
    return print(usage.requiredErrorText(subject, written, [...options.keys()]), USAGE_EXIT_CODE);
  }
  return { kind: "command", command, word: word ?? command.argument?.default, options, global };
}

const SUMMARY = "[OPTIONS] <COMMAND>";
const findCommand = (name: string) => REMOTE_COMMANDS.find((item) => item.name === name);

async function unknownCommand(program: string, name: string): Promise<RemoteInvocation> {
  const { unknownCommandText } = await import("@vmm/cli/usage_error.ts");
  const names = [...REMOTE_COMMANDS.map((item) => item.name), "help"];
  return print(unknownCommandText({ program, summary: SUMMARY, options: [] }, name, names), USAGE_EXIT_CODE);
}

/** What `help` with the words `name`, `surplus` after it prints. */
async function helpOf(program: string, [name, surplus]: readonly string[]): Promise<RemoteInvocation> {
  const help = await import("./remote_help.ts");
  if (name === undefined) return print(help.remoteHelp(program));
  const command = findCommand(name);
  if (command === undefined) return await unknownCommand(program, name);
  if (surplus === undefined) return print(help.commandHelp(program, command));
  const { unknownCommandText } = await import("@vmm/cli/usage_error.ts");
  const subject = {
    program: `${program} ${name}`,
    summary: help.commandSummary(command),
    options: command.options ?? [],
  };
  return print(unknownCommandText(subject, surplus, []), USAGE_EXIT_CODE);
}

/** What the arguments `argv` of `program` ask for. Never throws. */
export async function readRemoteArguments(
  argv: readonly string[],
  program: string,
): Promise<RemoteInvocation> {
  const scan = scanArguments(argv, GLOBAL_OPTIONS, true);
  if (scan.kind === "help") return await helpOf(program, []);
  if (scan.kind === "fault") {
    const { usageErrorText } = await import("@vmm/cli/usage_error.ts");
    const subject = { program, summary: SUMMARY, options: GLOBAL_OPTIONS, last: "<COMMAND>" };
    return print(usageErrorText(subject, scan.fault), USAGE_EXIT_CODE);
  }
  if (scan.values.has("version")) {
    const own = program === "ch-remote" ? `ch-remote v${COMPATIBLE_VERSION}` : `${program} ${NEPHOS_VERSION}`;
    return print(`${own}\n`);
  }
  const [name, ...rest] = scan.rest;
  if (name === undefined) {
    const help = await import("./remote_help.ts");
    const text = argv.length === 0 ? help.remoteHelp(program) : help.noCommandText(program);
    return print(text, USAGE_EXIT_CODE);
  }
  const command = findCommand(name);
  if (argv.at(-1 - scan.rest.length) === "--" && (command !== undefined || name === "help")) {
    const { hiddenCommandText } = await import("@vmm/cli/usage_error.ts");
    return print(hiddenCommandText({ program, summary: SUMMARY, options: [] }, name), USAGE_EXIT_CODE);
  }
  if (name === "help") return await helpOf(program, rest);
  if (command === undefined) return await unknownCommand(program, name);
  return await readCommand(program, command, rest, scan.values);
}

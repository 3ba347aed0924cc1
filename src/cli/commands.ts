/**
 * Sub-commands of the personality `nephos` that print something: their arguments, help and errors.
 *
 * L6, main isolate, pure; loaded only when one is called.
 */
import { scanArguments } from "./arguments.ts";
import type { OpenApiCommand, PrintCommand } from "./command_result.ts";
import { completionScript, SHELLS } from "./completion.ts";
import { commandHelp } from "./help.ts";
import { requiredErrorText, USAGE_EXIT_CODE, usageErrorText } from "./usage_error.ts";

const print = (text: string): PrintCommand => ({ kind: "print", text, stream: "stdout", exitCode: 0 });
const refuse = (text: string): PrintCommand => ({
  kind: "print",
  text,
  stream: "stderr",
  exitCode: USAGE_EXIT_CODE,
});

/** The words of `nephos <name> …`, or what to print instead of looking at them. `usage`: which words there may be. */
function wordsOf(
  name: "openapi" | "completion",
  usage: string,
  argv: readonly string[],
  most: number,
): readonly string[] | PrintCommand {
  const subject = { program: `nephos ${name}`, summary: usage, options: [] };
  const scan = scanArguments(argv, [], true);
  if (scan.kind === "help" || argv.includes("--help")) return print(commandHelp(name, usage));
  if (scan.kind === "fault") return refuse(usageErrorText(subject, scan.fault));
  if (scan.rest.length <= most) return scan.rest;
  return refuse(usageErrorText(subject, { kind: "unexpected", argument: scan.rest[most], given: [] }));
}

/** Answers `nephos openapi`. */
export function openApiCommand(argv: readonly string[]): OpenApiCommand | PrintCommand {
  const words = wordsOf("openapi", "", argv, 0);
  return "kind" in words ? words : { kind: "openapi" };
}

/** Answers `nephos completion <shell>`. */
export function completionCommand(argv: readonly string[]): PrintCommand {
  const usage = `<${SHELLS.join("|")}>`;
  const words = wordsOf("completion", usage, argv, 1);
  if ("kind" in words) return words;
  const subject = { program: "nephos completion", summary: usage, options: [] };
  if (words.length === 0) return refuse(requiredErrorText(subject, [usage], []));
  const shell = SHELLS.find((name) => name === words[0]);
  if (shell !== undefined) return print(completionScript(shell));
  return refuse(usageErrorText(subject, { kind: "unexpected", argument: words[0], given: [] }));
}

/**
 * Writes docs/cli.md: every option and remote command with its parameters, from the tables the program itself uses.
 *
 * `deno run -A scripts/docs_cli.ts`; a test fails when the file is not what this would write.
 *
 * @module
 */

import { join } from "node:path";
import type { Parameter, ParameterTable } from "@schemas/cli/parameter.ts";
import { shownParameters, valueNotation } from "@vmm/cli/help.ts";
import { GROUP_TITLES, OPTION_HELP } from "@vmm/cli/option_help.ts";
import { type OptionName, type OptionRow, OPTIONS } from "@vmm/cli/options.ts";
import { optionNotation } from "@vmm/cli/usage_error.ts";
import { REMOTE_COMMANDS } from "@vmm/remote/commands.ts";
import { argumentNotation, COMMAND_PARAMETERS, WORD_TEXTS } from "@vmm/remote/remote_help.ts";
import { ROOT } from "./source_tree.ts";

/** The file, relative to the root. */
export const CLI_DOCUMENT = "docs/cli.md";

const rows: readonly OptionRow[] = OPTIONS;
const code = (text: string) => `\`${text}\``;

/** A table as `deno fmt` lays it out. */
function table(head: readonly string[], lines: readonly (readonly string[])[]): string[] {
  // A bar inside a cell would end it.
  const cells = [head, ...lines].map((line) => line.map((cell) => cell.replaceAll("|", "\\|")));
  const widths = head.map((_, column) => Math.max(3, ...cells.map((line) => line[column].length)));
  const row = (line: readonly string[]) => `| ${line.map((cell, i) => cell.padEnd(widths[i])).join(" | ")} |`;
  return [row(cells[0]), row(widths.map((width) => "-".repeat(width))), ...cells.slice(1).map(row)];
}

function defaultNotation(parameter: Parameter): string {
  const { default: value, missing } = parameter;
  if (missing !== undefined) return "required";
  if (value === undefined) return "";
  if (parameter.kind === "choice") {
    return Object.keys(parameter.choices).find((word) => parameter.choices[word] === value) ?? "";
  }
  if (typeof value === "boolean") return value ? "on" : "off";
  if (typeof value === "bigint" && value !== 0n && value % (1n << 20n) === 0n) return `${value >> 20n}M`;
  return String(value);
}

function parameterTable(parameters: ParameterTable): string[] {
  const lines = shownParameters(parameters).map(([key, parameter]) => [
    parameter.kind === "word" ? code(key) : code(`${key}=${valueNotation(parameter)}`),
    defaultNotation(parameter),
    parameter.doc,
  ]);
  return table(["Parameter", "Default", "Meaning"], lines);
}

function optionSection(row: OptionRow): string[] {
  const { summary, parameters } = OPTION_HELP[row.name as OptionName];
  const facts = [
    row.extra ? "Not in Cloud Hypervisor." : "",
    row.default === undefined ? "" : `Default ${code(row.default)}.`,
    row.choices === undefined ? "" : `One of ${row.choices.map(code).join(", ")}.`,
  ].filter(Boolean);
  return [
    `### ${
      code(
        row.short === undefined || row.arity === "count"
          ? optionNotation(row)
          : `-${row.short}, ${optionNotation(row)}`,
      )
    }`,
    "",
    [summary, ...facts].join(" "),
    "",
    ...(parameters === undefined ? [] : [...parameterTable(parameters), ""]),
  ];
}

function commandSection(command: (typeof REMOTE_COMMANDS)[number]): string[] {
  const parameters = COMMAND_PARAMETERS[command.name];
  const words = [command.name, ...(command.options ?? []).map(optionNotation), argumentNotation(command)];
  return [
    `### ${code(words.filter(Boolean).join(" "))}`,
    "",
    [`${command.summary}.`, WORD_TEXTS[command.name], `${code(`${command.method} ${command.endpoint}`)}.`]
      .filter(Boolean)
      .join(" "),
    "",
    ...(parameters === undefined
      ? []
      : command.name.startsWith("add-")
      ? [`Parameters as of \`--${command.name.slice(4)}\` above.`, ""]
      : [...parameterTable(parameters), ""]),
  ];
}

const INTRODUCTION = `# Command line

Made by \`scripts/docs_cli.ts\` from the tables the program reads its options with; do not edit.

\`\`\`sh
nephos [OPTIONS]                                    # run a VMM, and a VM if there is something to boot
nephos remote --api-socket <path> <COMMAND>         # control one
nephos openapi                                      # print the OpenAPI document of the REST API
nephos completion bash|zsh|fish                     # print a completion script
\`\`\`

Called as \`cloud-hypervisor\` or \`ch-remote\` the program has the options, texts and exit codes of these programs.

Exit codes: 0 a normal end, 1 an error (the chain of its causes is on standard error), 2 a command line that is not
understood.

## Values

- Most values are lists of \`key=value\` with commas. An empty value counts as not given; of a repeated key the last counts.
- Commas inside \`[...]\` or \`"..."\` do not separate. A doubled quote inside quotes is one quote.
- Switches are \`on\`, \`off\`, \`true\` or \`false\`. Numbers are decimal. Sizes may end in \`K\`, \`M\` or \`G\` (powers of 1024).
- Lists of numbers take ranges: \`[0,2-4]\`. Some lists have keys: \`[0@[1,2],1@[3]]\`.
- An option with \`...\` takes several values, \`--disk path=a path=b\`, and may be repeated.

To open the completion script in the shell at hand: \`source <(nephos completion bash)\`, and so for zsh after \`compinit\`;
\`nephos completion fish | source\` in fish.
`;

/** The whole document. */
export function cliDocument(): string {
  const lines = [INTRODUCTION];
  for (const [groups, title] of GROUP_TITLES) {
    lines.push(`## ${title}`, "");
    for (const row of rows) {
      if (groups.includes(row.group)) lines.push(...optionSection(row));
    }
  }
  lines.push(
    "## Remote commands",
    "",
    "`nephos remote --api-socket <path> <COMMAND>`, or `ch-remote`: one request; the answer goes to standard output.",
    "",
  );
  for (const command of REMOTE_COMMANDS) lines.push(...commandSection(command));
  return lines.join("\n").trimEnd() + "\n";
}

if (import.meta.main) await Deno.writeTextFile(join(ROOT, CLI_DOCUMENT), cliDocument());

/**
 * Help and version texts, at 80 columns.
 *
 * L6, main isolate, pure; loaded only when asked for. Source: spec/cli.md §2.
 */
import {
  COMPATIBLE_VERSION,
  FEATURES,
  MIGRATION_PROTOCOL_VERSIONS,
  NEPHOS_VERSION,
} from "@vmm/base/version.ts";
import type { Parameter, ParameterTable } from "@schemas/cli/parameter.ts";
import { GROUP_TITLES, OPTION_HELP } from "./option_help.ts";
import { type OptionName, type OptionRow, optionsFor } from "./options.ts";
import { optionNotation } from "./usage_error.ts";

/** Width of a line. */
const COLUMNS = 80;
const TEXT_INDENT = 8;

/** Lines of `words`, joined by `separator`, each at most `columns` wide unless one word is wider. */
function fill(words: readonly string[], indent: number, separator: string): string[] {
  const margin = " ".repeat(indent);
  const columns = COLUMNS - separator.trimEnd().length;
  const lines: string[] = [];
  let line = "";
  for (const word of words) {
    if (line !== "" && margin.length + line.length + separator.length + word.length > columns) {
      lines.push(margin + (line + separator).trimEnd());
      line = word;
    } else {
      line = line === "" ? word : line + separator + word;
    }
  }
  if (line !== "") lines.push(margin + line);
  return lines;
}

/** `text` in lines of at most 80 columns, each indented by `indent`. */
export function wrap(text: string, indent: number): string[] {
  return fill(text.split(" "), indent, " ");
}

/** What stands for a parameter's value: its placeholder, or what its kind allows. */
export function valueNotation(parameter: Parameter): string {
  if (parameter.value !== undefined) return parameter.value;
  switch (parameter.kind) {
    case "toggle":
      return "on|off";
    case "choice":
      return Object.keys(parameter.choices).join("|");
    default:
      return `<${parameter.kind}>`;
  }
}

/** A parameter as it is written: `path=<path>`, or a bare word. */
function parameterNotation(key: string, parameter: Parameter): string {
  return parameter.kind === "word" ? key : `${key}=${valueNotation(parameter)}`;
}

/** Parameters to show, those of the block all PCI devices share last. */
export function shownParameters(table: ParameterTable): [key: string, parameter: Parameter][] {
  const shown = Object.entries(table).filter(([, { hidden }]) => !hidden);
  return [...shown.filter(([, { pci }]) => !pci), ...shown.filter(([, { pci }]) => pci)];
}

/** The parameters of `table` as lines of at most 80 columns, each indented by `indent`. */
export function fillParameters(table: ParameterTable, indent: number): string[] {
  return fill(
    shownParameters(table).map(([key, parameter]) => parameterNotation(key, parameter)),
    indent,
    ", ",
  );
}

function optionLines(row: OptionRow): string[] {
  const help = OPTION_HELP[row.name as OptionName];
  const letter = row.short !== undefined && row.arity !== "count" ? `-${row.short}, ` : "";
  const notes = [
    row.default === undefined ? "" : ` [default: ${row.default}]`,
    row.choices === undefined ? "" : ` [values: ${row.choices.join(", ")}]`,
  ];
  return [
    `  ${letter}${optionNotation(row)}`,
    ...wrap(help.summary + notes.join(""), TEXT_INDENT),
    ...(help.parameters === undefined ? [] : fillParameters(help.parameters, TEXT_INDENT)),
  ];
}

/** Sub-commands of the personality `nephos`. */
export const COMMANDS = [
  ["remote", "Control a running VMM; see `nephos remote --help`"],
  ["openapi", "Print the OpenAPI document of the REST API"],
  ["completion", "Print a completion script for bash, zsh or fish"],
] as const;

/** The help text of the VMM, called as `program`. `extras`: what the original does not have is there too. */
export function vmmHelp(program: string, extras: boolean): string {
  const lines = ["Run a virtual machine on KVM.", "", `Usage: ${program} [OPTIONS]`];
  if (extras) {
    lines.push(`       ${program} <COMMAND>`, "", "Commands:");
    for (const [name, text] of COMMANDS) lines.push(`  ${name.padEnd(12)}${text}`);
  }
  lines.push(
    "",
    ...wrap(
      "Options with `...` take several values and may be repeated. Values are lists of key=value with commas; " +
        'quote commas as in path="a,b". Sizes may end in K, M or G.',
      0,
    ),
  );
  for (const [groups, title] of GROUP_TITLES) {
    lines.push("", `${title}:`);
    for (const row of optionsFor(extras)) {
      if (groups.includes(row.group)) lines.push(...optionLines(row));
    }
  }
  lines.push("  -h, --help", `${" ".repeat(TEXT_INDENT)}Print this text.`);
  return lines.join("\n") + "\n";
}

/** The help text of a sub-command that has no options. `usage`: what stands behind its name. */
export function commandHelp(name: (typeof COMMANDS)[number][0], usage: string): string {
  const [, summary] = COMMANDS.find(([command]) => command === name)!;
  return `${summary}.\n\nUsage: ${`nephos ${name} ${usage}`.trim()}\n`;
}

/** The version text of the VMM. `verbose` adds the features. */
export function vmmVersion(extras: boolean, verbose: boolean): string {
  const lines = [
    extras
      ? `nephos ${NEPHOS_VERSION} (Cloud Hypervisor v${COMPATIBLE_VERSION} interfaces)`
      : `cloud-hypervisor v${COMPATIBLE_VERSION}`,
    `Migration Protocol Versions: ${MIGRATION_PROTOCOL_VERSIONS.join(", ")}`,
  ];
  if (verbose) {
    lines.push(`Enabled features: [${FEATURES.map((name) => JSON.stringify(name)).join(", ")}]`);
  }
  return lines.join("\n") + "\n";
}

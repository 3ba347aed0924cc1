/**
 * Texts of usage errors, in the form users of the original know: what is wrong, a tip, the usage line.
 *
 * L6, main isolate, pure; loaded only when there is an error. Source: forms as observed on the original.
 */
import { HELP_OPTION, type OptionSpec, type UsageFault } from "./arguments.ts";

/** Exit code of a command line that is not understood. */
export const USAGE_EXIT_CODE = 2;

/** Least similarity of a name worth proposing. */
const SIMILAR_ENOUGH = 0.7;

/** How an option is written in texts, as `--disk <disk>...`. */
export function optionNotation({ name, short, arity }: OptionSpec): string {
  switch (arity) {
    case "flag":
      return `--${name}`;
    case "count":
      return `-${short}...`;
    case "one":
      return `--${name} <${name}>`;
    case "optional":
      return `--${name} [<${name}>]`;
    case "list":
      return `--${name} <${name}>...`;
  }
}

/** Jaro similarity of two texts, 0 to 1 (M. A. Jaro, 1989). */
export function similarity(left: string, right: string): number {
  if (left === right) return 1;
  const reach = Math.max(0, Math.floor(Math.max(left.length, right.length) / 2) - 1);
  const taken = new Array<boolean>(right.length).fill(false);
  const matchedLeft: string[] = [];
  for (let i = 0; i < left.length; i++) {
    const to = Math.min(right.length - 1, i + reach);
    for (let j = Math.max(0, i - reach); j <= to; j++) {
      if (taken[j] || left[i] !== right[j]) continue;
      taken[j] = true;
      matchedLeft.push(left[i]);
      break;
    }
  }
  const matches = matchedLeft.length;
  if (matches === 0) return 0;
  const matchedRight = [...right].filter((_, index) => taken[index]);
  const transpositions = matchedLeft.filter((char, index) => char !== matchedRight[index]).length / 2;
  return (matches / left.length + matches / right.length + (matches - transpositions) / matches) / 3;
}

/** The names that are like `word`, the most similar last. */
export function similarNames(word: string, names: readonly string[]): string[] {
  return names.map((name) => ({ name, score: similarity(word, name) }))
    .filter(({ score }) => score > SIMILAR_ENOUGH)
    .sort((left, right) => left.score - right.score)
    .map(({ name }) => name);
}

function errorText(summary: string, usage: string | undefined, tips: readonly string[] = []): string {
  const parts = [`error: ${summary}`];
  if (tips.length > 0) parts.push(tips.map((tip) => `  tip: ${tip}`).join("\n"));
  if (usage !== undefined) parts.push(`Usage: ${usage}`);
  return [...parts, "For more information, try '--help'.\n"].join("\n\n");
}

/** What a usage line is made of: `cloud-hypervisor`, `ch-remote snapshot`; and what follows when no option is named. */
export interface UsageSubject {
  readonly program: string;
  readonly summary: string;
  readonly options: readonly OptionSpec[];
  /** What follows the options in any case, as `<COMMAND>`. */
  readonly last?: string;
  /** True when words may follow that are no options. */
  readonly takesWord?: boolean;
}

/** The line below a fault that lists the values an option takes; empty when it takes any. */
const choicesText = ({ choices }: OptionSpec) =>
  choices === undefined ? "" : `\n  [possible values: ${choices.join(", ")}]`;

/** Text for standard error that explains `fault`. */
export function usageErrorText(subject: UsageSubject, fault: UsageFault): string {
  const { program, summary, options, last = "", takesWord = false } = subject;
  const all = [...options, HELP_OPTION];
  const named = (names: readonly string[]) =>
    [program, ...new Set(names.map((name) => optionNotation(all.find((item) => item.name === name)!))), last]
      .join(" ").trim();
  const general = `${program} ${summary}`.trim();
  switch (fault.kind) {
    case "unexpected": {
      const { argument, given, isBehindMark } = fault;
      const mayBeOption = argument.startsWith("--") && !isBehindMark;
      const similar = mayBeOption
        ? similarNames(
          argument.slice(2),
          all.filter((item) => item.arity !== "count").map((item) => item.name),
        ).at(-1)
        : undefined;
      const shown = similar === undefined ? given : [...given, similar];
      const tips = similar === undefined ? [] : [`a similar argument exists: '--${similar}'`];
      if (takesWord && argument.startsWith("-") && !isBehindMark) {
        tips.push(`to pass '${argument}' as a value, use '-- ${argument}'`);
      }
      return errorText(
        `unexpected argument '${argument}' found`,
        mayBeOption && shown.length > 0 ? named(shown) : general,
        tips,
      );
    }
    case "value-missing":
      return errorText(
        `a value is required for '${optionNotation(fault.option)}' but none was supplied${
          choicesText(fault.option)
        }`,
        undefined,
      );
    case "repeated":
      return errorText(
        `the argument '${optionNotation(fault.option)}' cannot be used multiple times`,
        general,
      );
    case "value-unexpected":
      return errorText(
        `unexpected value '${fault.value}' for '${
          optionNotation(fault.option)
        }' found; no more were expected`,
        named([fault.option.name]),
      );
    case "value-unknown": {
      const similar = similarNames(fault.value, fault.option.choices ?? []).at(-1);
      return errorText(
        `invalid value '${fault.value}' for '${optionNotation(fault.option)}'${choicesText(fault.option)}`,
        undefined,
        similar === undefined ? [] : [`a similar value exists: '${similar}'`],
      );
    }
  }
}

/** Text for a command line that lacks `missing` (as they are written) beside the options `given`. */
export function requiredErrorText(
  { program, options }: UsageSubject,
  missing: readonly string[],
  given: readonly string[],
): string {
  const used = given.flatMap((name) => options.filter((item) => item.name === name)).map(optionNotation);
  return errorText(
    ["the following required arguments were not provided:", ...missing.map((item) => `  ${item}`)].join("\n"),
    [program, ...used, ...missing].join(" "),
  );
}

/** Text for a `word` that is none of the `commands`. */
export function unknownCommandText(
  { program, summary }: UsageSubject,
  word: string,
  commands: readonly string[],
): string {
  const similar = similarNames(word, commands);
  const found = similar.length === 1 ? "a similar subcommand exists" : "some similar subcommands exist";
  return errorText(
    `unrecognized subcommand '${word}'`,
    `${program} ${summary}`.trim(),
    similar.length === 0 ? [] : [`${found}: ${similar.map((name) => `'${name}'`).join(", ")}`],
  );
}

/** Text for a command behind `--`, where only words are. */
export function hiddenCommandText({ program, summary }: UsageSubject, word: string): string {
  return errorText(
    `unexpected argument '${word}' found`,
    `${program} ${summary}`.trim(),
    [`subcommand '${word}' exists; to use it, remove the '--' before it`],
  );
}

/** Text for two options that exclude each other. */
export function conflictErrorText(
  { program, summary }: UsageSubject,
  one: OptionSpec,
  other: OptionSpec,
): string {
  return errorText(
    `the argument '${optionNotation(one)}' cannot be used with '${optionNotation(other)}'`,
    `${program} ${summary}`.trim(),
  );
}

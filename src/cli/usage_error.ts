/**
 * Texts of usage errors, in the form users of the original know: what is wrong, a tip, the usage line.
 *
 * L6, main isolate, pure; loaded only when there is an error. Source: forms as observed on the original.
 */
import type { OptionSpec, UsageFault } from "./arguments.ts";

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

/** The name most like `word` among `names`, or undefined when none is like it. */
export function mostSimilar(word: string, names: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestScore = SIMILAR_ENOUGH;
  for (const name of names) {
    const score = similarity(word, name);
    if (score > bestScore) [best, bestScore] = [name, score];
  }
  return best;
}

function errorText(summary: string, usage: string | undefined, tip?: string): string {
  const parts = [`error: ${summary}`];
  if (tip !== undefined) parts.push(`  tip: ${tip}`);
  if (usage !== undefined) parts.push(`Usage: ${usage}`);
  return [...parts, "For more information, try '--help'.\n"].join("\n\n");
}

/** What a usage line is made of: `cloud-hypervisor`, `ch-remote snapshot`; and what follows when no option is named. */
export interface UsageSubject {
  readonly program: string;
  readonly summary: string;
  readonly options: readonly OptionSpec[];
}

/** Text for standard error that explains `fault`. */
export function usageErrorText({ program, summary, options }: UsageSubject, fault: UsageFault): string {
  const named = (names: readonly string[]) =>
    [program, ...options.filter(({ name }) => names.includes(name)).map(optionNotation)].join(" ");
  const general = `${program} ${summary}`.trim();
  switch (fault.kind) {
    case "unexpected": {
      const { argument, given } = fault;
      const similar = argument.startsWith("--")
        ? mostSimilar(
          argument.slice(2),
          options.filter((item) => item.arity !== "count").map((item) => item.name),
        )
        : undefined;
      const shown = similar === undefined ? given : [...given, similar];
      return errorText(
        `unexpected argument '${argument}' found`,
        argument.startsWith("--") && shown.length > 0 ? named(shown) : general,
        similar && `a similar argument exists: '--${similar}'`,
      );
    }
    case "value-missing":
      return errorText(
        `a value is required for '${optionNotation(fault.option)}' but none was supplied`,
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
        named([...fault.given, fault.option.name]),
      );
    case "value-unknown":
      return errorText(
        `invalid value '${fault.value}' for '${optionNotation(fault.option)}'\n  [possible values: ${
          fault.option.choices?.join(", ")
        }]`,
        undefined,
      );
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

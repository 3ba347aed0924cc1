/**
 * Splitting a command line into options and their values: the rules users of the original know.
 *
 * L6, main isolate, pure, loaded at every start: texts of usage errors are elsewhere (`usage_error.ts`).
 * An option with a list of values takes all words up to the next option and may be repeated; `--name=value` takes exactly one.
 * Source: spec/cli.md §1, §2; order of errors as observed on the original.
 */

/** How many values an option takes. `count` options are repeated letters. */
export type Arity = "flag" | "count" | "one" | "optional" | "list";

/** What splitting needs to know about an option. */
export interface OptionSpec {
  readonly name: string;
  /** One-letter form. A `count` option has only this one. */
  readonly short?: string;
  readonly arity: Arity;
  /** The only values allowed. */
  readonly choices?: readonly string[];
}

/** What cannot be split. */
type Fault =
  /** `isBehindMark`: it looks like an option, behind a `--` after which there are none. */
  | { readonly kind: "unexpected"; readonly argument: string; readonly isBehindMark?: true }
  | { readonly kind: "value-missing" | "repeated"; readonly option: OptionSpec }
  | {
    readonly kind: "value-unexpected" | "value-unknown";
    readonly option: OptionSpec;
    readonly value: string;
  };

/** A command line that cannot be split. `given`: names of the options up to the fault, in order. */
export type UsageFault = { readonly given: readonly string[] } & Fault;

/** The options of a command line, by name, in the order they first appear. */
export interface ParsedArguments {
  readonly kind: "parsed";
  /** Values by option name; one empty text per occurrence of a flag or of a valueless option. */
  readonly values: ReadonlyMap<string, readonly string[]>;
  /** Words that belong to no option: the first one and all that follows, with `stopAtWord`. */
  readonly rest: readonly string[];
}

/** What a command line is: split, a wish for help, or faulty. */
export type ArgumentScan =
  | ParsedArguments
  | { readonly kind: "help" }
  | { readonly kind: "fault"; readonly fault: UsageFault };

/** The option that asks for help, wherever it is, unless an error comes before. */
export const HELP_OPTION: OptionSpec = { name: "help", short: "h", arity: "flag" };

const isOption = (word: string) => word.startsWith("-") && word !== "-";

class Scanner {
  readonly values = new Map<string, string[]>();
  #at = 0;
  readonly #argv: readonly string[];
  readonly #options: readonly OptionSpec[];
  readonly #stopAtWord: boolean;

  constructor(argv: readonly string[], options: readonly OptionSpec[], stopAtWord: boolean) {
    this.#argv = argv;
    this.#options = options;
    this.#stopAtWord = stopAtWord;
  }

  scan(): ArgumentScan {
    while (this.#at < this.#argv.length) {
      const word = this.#argv[this.#at++];
      if (word === "--") return this.#stop();
      if (!isOption(word)) {
        this.#at--;
        return this.#stop();
      }
      const result = word.startsWith("--") ? this.#long(word.slice(2)) : this.#letters(word.slice(1));
      if (result !== undefined) return result;
    }
    return { kind: "parsed", values: this.values, rest: [] };
  }

  #stop(): ArgumentScan {
    const rest = this.#argv.slice(this.#at);
    if (rest.length > 0 && !this.#stopAtWord) {
      const [argument] = rest;
      return isOption(argument)
        ? this.#fault({ kind: "unexpected", argument, isBehindMark: true })
        : this.#unexpected(argument);
    }
    return { kind: "parsed", values: this.values, rest };
  }

  #long(text: string): ArgumentScan | undefined {
    const equals = text.indexOf("=");
    const name = equals < 0 ? text : text.slice(0, equals);
    if (name === HELP_OPTION.name) return this.#help(equals < 0 ? undefined : text.slice(equals + 1));
    const option = this.#options.find((item) => item.arity !== "count" && item.name === name);
    if (option === undefined) return this.#unexpected(`--${name}`);
    return this.#take(option, equals < 0 ? undefined : text.slice(equals + 1));
  }

  #letters(letters: string): ArgumentScan | undefined {
    for (const letter of letters) {
      if (letter === HELP_OPTION.short) return this.#help(undefined);
      const option = this.#options.find((item) => item.short === letter);
      if (option === undefined) return this.#unexpected(`-${letter}`);
      const result = this.#take(option, undefined);
      if (result !== undefined) return result;
    }
    return undefined;
  }

  #help(attached: string | undefined): ArgumentScan {
    if (attached === undefined) return { kind: "help" };
    return {
      kind: "fault",
      fault: { kind: "value-unexpected", option: HELP_OPTION, value: attached, given: [] },
    };
  }

  #take(option: OptionSpec, attached: string | undefined): ArgumentScan | undefined {
    const { name, arity } = option;
    if (attached !== undefined && (arity === "flag" || arity === "count")) {
      return this.#fault({ kind: "value-unexpected", option, value: attached });
    }
    const values = attached !== undefined ? [attached] : this.#following(arity);
    if (values.length === 0 && (arity === "one" || arity === "list")) return this.#withoutValue(option);
    const before = this.values.get(name);
    if (before !== undefined && arity !== "list" && arity !== "count") {
      return this.#fault({ kind: "repeated", option });
    }
    this.values.set(name, [...before ?? [], ...(values.length === 0 ? [""] : values)]);
    const value = values.find((item) => option.choices?.includes(item) === false);
    if (value === undefined) return undefined;
    return this.#fault(
      value === "" ? { kind: "value-missing", option } : { kind: "value-unknown", option, value },
    );
  }

  /** The fault of an option that has no value: its own, or that of a word behind it that fits nowhere. */
  #withoutValue(option: OptionSpec): ArgumentScan {
    const next = this.#argv[this.#at];
    const behind = this.#argv[this.#at + 1];
    if (next === "--" && behind !== undefined && !isOption(behind) && !this.#stopAtWord) {
      return this.#unexpected(behind);
    }
    if (next === undefined || next === "--" || this.#isKnown(next)) {
      return this.#fault({ kind: "value-missing", option });
    }
    return this.#unexpected(next);
  }

  /** The words after an option that are its values. */
  #following(arity: Arity): string[] {
    const most = arity === "list" ? Infinity : arity === "one" || arity === "optional" ? 1 : 0;
    const values: string[] = [];
    while (values.length < most && this.#at < this.#argv.length && !isOption(this.#argv[this.#at])) {
      values.push(this.#argv[this.#at++]);
    }
    return values;
  }

  #isKnown(word: string): boolean {
    if (!word.startsWith("--")) return this.#options.some(({ short }) => short === word[1]);
    const name = word.slice(2).split("=", 1)[0];
    return name === HELP_OPTION.name || this.#options.some((item) => item.name === name);
  }

  #unexpected(argument: string): ArgumentScan {
    return this.#fault({ kind: "unexpected", argument });
  }

  #fault(fault: Fault): ArgumentScan {
    return { kind: "fault", fault: { ...fault, given: [...this.values.keys()] } };
  }
}

/**
 * Splits `argv` by `options`. Words that belong to no option are a fault, or with `stopAtWord` end the scan and are `rest`.
 * Never throws.
 */
export function scanArguments(
  argv: readonly string[],
  options: readonly OptionSpec[],
  stopAtWord = false,
): ArgumentScan {
  return new Scanner(argv, options, stopAtWord).scan();
}

/**
 * Completion scripts for bash, zsh and fish, made from the option tables.
 *
 * L6, main isolate, pure; loaded only when asked for. One script serves the program under all its names.
 */
import { REMOTE_COMMANDS, type RemoteCommand } from "@vmm/remote/commands.ts";
import { COMMANDS, shownParameters } from "./help.ts";
import { OPTION_HELP } from "./option_help.ts";
import { type OptionName, type OptionRow, OPTIONS } from "./options.ts";

/** Shells there is a script for. */
export const SHELLS = ["bash", "zsh", "fish"] as const;
const VMM_NAMES = ["nephos", "cloud-hypervisor"];
const rows: readonly OptionRow[] = OPTIONS;
/** Options of the personality `nephos` only. */
const isExtra = (row: OptionRow) => row.extra === true;

/** What may follow an option, as words; keys of parameters end in `=`. */
function valueWords(row: OptionRow): string[] {
  if (row.choices !== undefined) return [...row.choices];
  const table = OPTION_HELP[row.name as OptionName].parameters ?? {};
  return shownParameters(table).map(([key, { kind }]) => kind === "word" ? key : `${key}=`);
}

const isPath = (row: OptionRow) => OPTION_HELP[row.name as OptionName].isPath === true;
const flag = (row: OptionRow) => row.arity === "count" ? `-${row.short}` : `--${row.name}`;
/** The first clause of an option's help. */
const summary = (row: OptionRow) => OPTION_HELP[row.name as OptionName].summary.split(/[.:;](?: |$)/)[0];
const commandNames = COMMANDS.map(([name]) => name);
const remoteOptions = ({ options = [] }: RemoteCommand) => options.map(({ name }) => `--${name}`);

/** Values of the parameters that have few, by the keys that take them: `off on` → the switches. */
function valuesByKey(): Map<string, string[]> {
  const keys = new Map<string, Set<string>>();
  for (const { parameters = {} } of Object.values(OPTION_HELP)) {
    for (const [key, parameter] of shownParameters(parameters)) {
      const values = parameter.kind === "toggle"
        ? "on off"
        : parameter.kind === "choice"
        ? Object.keys(parameter.choices).join(" ")
        : undefined;
      if (values !== undefined) keys.set(values, (keys.get(values) ?? new Set()).add(key));
    }
  }
  return new Map([...keys].map(([values, names]) => [values, [...names]]));
}

function bash(): string {
  const cases = rows.filter(({ arity }) => arity !== "flag" && arity !== "count").map((row) =>
    isPath(row)
      ? `    ${flag(row)}) compopt -o nospace; COMPREPLY=($(compgen -f -- "$current")); return ;;`
      : `    ${flag(row)}) words="${valueWords(row).join(" ")}" ;;`
  );
  return `# bash completion for ${VMM_NAMES.join(", ")} and ch-remote
_nephos_remote() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}"
  case "$previous" in
    --api-socket|create) compopt -o nospace; COMPREPLY=($(compgen -f -- "$current")); return ;;
${
    REMOTE_COMMANDS.filter(({ options }) => options !== undefined).map((command) =>
      `    ${command.name}) COMPREPLY=($(compgen -W "${
        remoteOptions(command).join(" ")
      }" -- "$current")); return ;;`
    ).join("\n")
  }
  esac
  COMPREPLY=($(compgen -W "--api-socket --help --version ${
    REMOTE_COMMANDS.map(({ name }) => name).join(" ")
  }" -- "$current"))
}

_nephos() {
  local current="\${COMP_WORDS[COMP_CWORD]}" words="" command="" i
  [[ "\${COMP_WORDS[0]##*/}" == nephos && $COMP_CWORD -gt 1 ]] && command="\${COMP_WORDS[1]}"
  case "$command" in
    remote) _nephos_remote; return ;;
    completion) COMPREPLY=($(compgen -W "${SHELLS.join(" ")}" -- "$current")); return ;;
    openapi) return ;;
  esac
  # "=" is a word of its own: behind it is the value of a parameter, or of an option.
  local key="" before="\${COMP_WORDS[COMP_CWORD-1]}"
  if [[ "$current" == = ]]; then key="$before" current=""
  elif [[ "$before" == = && "$current" != *,* ]]; then key="\${COMP_WORDS[COMP_CWORD-2]}"
  fi
  if [[ -n "$key" && "$key" != -* ]]; then
    case "\${key##*,}" in
${
    [...valuesByKey()].map(([values, keys]) =>
      `      ${keys.join("|")}) COMPREPLY=($(compgen -W "${values}" -- "$current")) ;;`
    ).join("\n")
  }
      *) compopt -o nospace; COMPREPLY=($(compgen -f -- "$current")) ;;
    esac
    return
  fi
  # The option the current word belongs to: the last one before it.
  for ((i = COMP_CWORD - 1; i > 0; i--)); do [[ "\${COMP_WORDS[i]}" == --* ]] && break; done
  case "\${COMP_WORDS[i]}" in
${cases.join("\n")}
  esac
  if [[ "$current" == -* || -z "$words" ]]; then
    words="${[...rows.filter((row) => !isExtra(row)).map(flag), "--help"].join(" ")}"
    if [[ "\${COMP_WORDS[0]##*/}" == nephos ]]; then
      words+=" ${rows.filter(isExtra).map(flag).join(" ")}"
      [[ $COMP_CWORD -eq 1 ]] && words+=" ${commandNames.join(" ")}"
    fi
  else
    compopt -o nospace
    before="\${current%,*}"
    if [[ "$current" == *,* ]]; then
      local word list=""
      for word in $words; do list+=" $before,$word"; done
      words="$list"
    fi
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}

complete -F _nephos ${VMM_NAMES.join(" ")}
complete -F _nephos_remote ch-remote
`;
}

const zshText = (text: string) =>
  text.replaceAll(/[\\'[\]:]/g, (char) => char === "'" ? "'\\''" : `\\${char}`);

function zsh(): string {
  const specOf = (row: OptionRow) => {
    const repeat = row.arity === "list" || row.arity === "count" ? "*" : "";
    // An option with a value takes it behind a space or behind "=".
    const equals = row.arity === "one" || row.arity === "list" ? "=" : "";
    const head = `'${repeat}${flag(row)}${equals}[${zshText(summary(row))}]`;
    if (row.arity === "flag" || row.arity === "count") return `${head}'`;
    const action = isPath(row)
      ? "_files"
      : row.choices !== undefined
      ? `(${row.choices.join(" ")})`
      : `{_sequence compadd -S "" - ${valueWords(row).join(" ")}}`;
    return valueWords(row).length === 0 && !isPath(row)
      ? `${head}:${row.name}:'`
      : `${head}${row.arity === "optional" ? "::" : ":"}${row.name}:${action}'`;
  };
  const lines = (rows: readonly OptionRow[], indent: string) => rows.map(specOf).join(`\n${indent}`);
  const described = (commands: readonly (readonly [string, string])[]) =>
    commands.map(([name, summary]) => `'${name}:${zshText(summary)}'`).join("\n    ");
  return `#compdef ${VMM_NAMES.join(" ")} ch-remote
# zsh completion for ${VMM_NAMES.join(", ")} and ch-remote
_nephos_remote() {
  local -a subcommands=(
    ${described(REMOTE_COMMANDS.map(({ name, summary }) => [name, summary]))}
  )
  local word
  for word in \${words[2,CURRENT-1]}; do
    case \$word in
${
    REMOTE_COMMANDS.filter(({ options }) => options !== undefined).map((command) =>
      `      ${command.name}) compadd -- ${remoteOptions(command).join(" ")}; return ;;`
    ).join("\n")
  }
    esac
  done
  _arguments '--api-socket[UNIX socket of the VMM]:socket:_files' '1:command:{_describe command subcommands}' '*:argument:_files'
}

_nephos() {
  if [[ \${service} == ch-remote ]]; then _nephos_remote; return; fi
  local -a specs=(
    ${lines(rows.filter((row) => !isExtra(row)), "    ")}
    '(- *)--help[Print help]'
  )
  if [[ \${service} == nephos ]]; then
    if (( CURRENT > 2 )); then
      case \${words[2]} in
        remote) shift words; (( CURRENT-- )); _nephos_remote; return ;;
        completion) _values shell ${SHELLS.join(" ")}; return ;;
        openapi) return ;;
      esac
    fi
    local -a subcommands=(
    ${described(COMMANDS)}
    )
    (( CURRENT == 2 )) && specs+=('1:command:{_describe command subcommands}')
    specs+=(${lines(rows.filter(isExtra), " ")})
  fi
  _arguments $specs
}

# Read from a folder of functions it is the function itself; sourced, it has to be made known.
if [[ \${funcstack[1]} == _nephos ]]; then _nephos "$@"; else compdef _nephos ${
    VMM_NAMES.join(" ")
  } ch-remote; fi
`;
}

const fishText = (text: string) => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;

/** Words that may follow in a list separated by commas. */
const inList = (words: readonly string[]) => `(__fish_append , ${words.join(" ")})`;

/** Lines for the remote client called as `name`; `behind`: what its own words come after, empty for nothing. */
function fishRemote(name: string, behind: string): string[] {
  const seen = "__fish_seen_subcommand_from";
  const all = REMOTE_COMMANDS.map((command) => command.name).join(" ");
  const before = `complete -c ${name} -n '${behind}not ${seen} ${all}'`;
  const lines = [`${before} -l api-socket -r -F -d 'UNIX socket of the VMM'`];
  for (const command of REMOTE_COMMANDS) {
    lines.push(`${before} -a ${command.name} -d ${fishText(command.summary)}`);
    for (const option of command.options ?? []) {
      const value = option.arity === "flag" ? "" : " -x";
      lines.push(`complete -c ${name} -n '${behind}${seen} ${command.name}' -l ${option.name}${value}`);
    }
  }
  return lines;
}

function fish(): string {
  const lines = [`# fish completion for ${VMM_NAMES.join(", ")} and ch-remote`];
  for (const name of VMM_NAMES) {
    const condition = name === "nephos"
      ? ` -n 'not __fish_seen_subcommand_from ${commandNames.join(" ")}'`
      : "";
    lines.push(`complete -c ${name} -f`);
    for (const row of rows) {
      if (row.extra && name !== "nephos") continue;
      const form = row.arity === "count" ? `-s ${row.short}` : `-l ${row.name}`;
      const takesValue = row.arity !== "flag" && row.arity !== "count";
      const words = valueWords(row);
      const value = !takesValue
        ? ""
        : isPath(row)
        ? " -r -F"
        : ` -x${
          words.length > 0
            ? ` -a ${fishText(row.choices === undefined ? inList(words) : words.join(" "))}`
            : ""
        }`;
      lines.push(`complete -c ${name}${condition} ${form}${value} -d ${fishText(summary(row))}`);
    }
    lines.push(`complete -c ${name} -s h -l help -d 'Print help'`);
  }
  for (const [name, text] of COMMANDS) {
    lines.push(`complete -c nephos -n __fish_use_subcommand -a ${name} -d ${fishText(text)}`);
  }
  lines.push(
    `complete -c nephos -n '__fish_seen_subcommand_from completion' -a '${SHELLS.join(" ")}'`,
    "complete -c ch-remote -f",
  );
  lines.push(...fishRemote("ch-remote", ""));
  lines.push(...fishRemote("nephos", "__fish_seen_subcommand_from remote; and "));
  return lines.join("\n") + "\n";
}

const SCRIPTS: Readonly<Record<(typeof SHELLS)[number], () => string>> = { bash, zsh, fish };

/** The script for `shell`. */
export function completionScript(shell: (typeof SHELLS)[number]): string {
  return SCRIPTS[shell]();
}

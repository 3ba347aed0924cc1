/**
 * Completion scripts for bash, zsh and fish, made from the option tables.
 *
 * L6, main isolate, pure; loaded only when asked for. One script serves the program under all its names.
 */
import { REMOTE_COMMANDS } from "@vmm/remote/commands.ts";
import type { PrintCommand } from "./command_result.ts";
import { shownParameters } from "./help.ts";
import { OPTION_HELP } from "./option_help.ts";
import { type OptionName, type OptionRow, OPTIONS } from "./options.ts";
import { USAGE_EXIT_CODE } from "./usage_error.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;
const VMM_NAMES = ["nephos", "cloud-hypervisor"];
const COMMANDS = ["remote", "openapi", "completion"];
const rows: readonly OptionRow[] = OPTIONS;

/** What may follow an option, as words; keys of parameters end in `=`. */
function valueWords(row: OptionRow): string[] {
  if (row.choices !== undefined) return [...row.choices];
  const table = OPTION_HELP[row.name as OptionName].parameters ?? {};
  return shownParameters(table).map(([key, { kind }]) => kind === "word" ? key : `${key}=`);
}

const isPath = (row: OptionRow) => OPTION_HELP[row.name as OptionName].isPath === true;
const flag = (row: OptionRow) => row.arity === "count" ? `-${row.short}` : `--${row.name}`;
const summary = (row: OptionRow) => OPTION_HELP[row.name as OptionName].summary.split(/[.:;]/)[0];

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
  esac
  COMPREPLY=($(compgen -W "--api-socket --help --version ${
    REMOTE_COMMANDS.map(({ name }) => name).join(" ")
  }" -- "$current"))
}

_nephos() {
  local current="\${COMP_WORDS[COMP_CWORD]}" words="" i
  if [[ "\${COMP_WORDS[0]##*/}" == nephos && "\${COMP_WORDS[1]}" == remote && $COMP_CWORD -gt 1 ]]; then
    _nephos_remote
    return
  fi
  # The option the current word belongs to: the last one before it.
  for ((i = COMP_CWORD - 1; i > 0; i--)); do [[ "\${COMP_WORDS[i]}" == --* ]] && break; done
  case "\${COMP_WORDS[i]}" in
${cases.join("\n")}
  esac
  if [[ "$current" == -* || -z "$words" ]]; then
    words="${[...rows.map(flag), "--help"].join(" ")}"
    [[ $COMP_CWORD -eq 1 && "\${COMP_WORDS[0]##*/}" == nephos ]] && words+=" ${COMMANDS.join(" ")}"
  else
    compopt -o nospace
    local before="\${current%,*}"
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
  const specs = rows.map((row) => {
    const repeat = row.arity === "list" || row.arity === "count" ? "*" : "";
    const head = `'${repeat}${flag(row)}[${zshText(summary(row))}]`;
    if (row.arity === "flag" || row.arity === "count") return `${head}'`;
    const action = isPath(row)
      ? "_files"
      : row.choices !== undefined
      ? `(${row.choices.join(" ")})`
      : `{_sequence compadd -S "" - ${valueWords(row).join(" ")}}`;
    return valueWords(row).length === 0 && !isPath(row)
      ? `${head}:${row.name}:'`
      : `${head}${row.arity === "optional" ? "::" : ":"}${row.name}:${action}'`;
  });
  const commands = REMOTE_COMMANDS.map(({ name, summary }) => `'${name}:${zshText(summary)}'`);
  return `#compdef ${VMM_NAMES.join(" ")} ch-remote
# zsh completion for ${VMM_NAMES.join(", ")} and ch-remote
_nephos_remote() {
  local -a commands=(
    ${commands.join("\n    ")}
  )
  _arguments '--api-socket[UNIX socket of the VMM]:socket:_files' '1:command:{_describe command commands}' '*:argument:_files'
}

_nephos() {
  if [[ \${service} == ch-remote ]]; then _nephos_remote; return; fi
  if [[ \${service} == nephos && \${words[2]} == remote && CURRENT -gt 2 ]]; then
    shift words; (( CURRENT-- )); _nephos_remote; return
  fi
  _arguments \\
    ${[...specs, "'--help[Print help]'"].join(" \\\n    ")}
}

_nephos "$@"
`;
}

const fishText = (text: string) => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;

function fish(): string {
  const lines = [`# fish completion for ${VMM_NAMES.join(", ")} and ch-remote`];
  for (const name of VMM_NAMES) {
    const condition = name === "nephos" ? ` -n 'not __fish_seen_subcommand_from remote'` : "";
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
        : ` -x${words.length > 0 ? ` -a ${fishText(words.join(" "))}` : ""}`;
      lines.push(`complete -c ${name}${condition} ${form}${value} -d ${fishText(summary(row))}`);
    }
  }
  lines.push(
    "complete -c nephos -n __fish_use_subcommand -a 'remote openapi completion'",
    "complete -c ch-remote -f",
  );
  for (
    const [name, condition] of [["ch-remote", "__fish_use_subcommand"], [
      "nephos",
      "__fish_seen_subcommand_from remote",
    ]]
  ) {
    lines.push(`complete -c ${name} -n '${condition}' -l api-socket -r -F -d 'UNIX socket of the VMM'`);
    for (const command of REMOTE_COMMANDS) {
      lines.push(`complete -c ${name} -n '${condition}' -a ${command.name} -d ${fishText(command.summary)}`);
    }
  }
  return lines.join("\n") + "\n";
}

const SCRIPTS: Readonly<Record<(typeof SHELLS)[number], () => string>> = { bash, zsh, fish };

/** Answers `nephos completion <shell>`. */
export function completionCommand(argv: readonly string[]): PrintCommand {
  const shell = SHELLS.find((name) => name === argv[0]);
  if (shell === undefined || argv.length !== 1) {
    return {
      kind: "print",
      text: `Usage: nephos completion <${SHELLS.join("|")}>\n`,
      stream: argv[0] === "--help" ? "stdout" : "stderr",
      exitCode: argv[0] === "--help" ? 0 : USAGE_EXIT_CODE,
    };
  }
  return { kind: "print", text: SCRIPTS[shell](), stream: "stdout", exitCode: 0 };
}

/**
 * All options of the program: names, arity, group, defaults. Help texts are in `option_help.ts`, parameters in schemas/cli.
 *
 * L6, main isolate, loaded at every start. Source: spec/cli.md §2.
 */
import type { OptionSpec } from "./arguments.ts";

/**
 * What an option is about. `vm` options, and `payload-part` ones, need a `payload` option beside them; `process` and
 * `log` options stand alone.
 */
export type OptionGroup = "payload" | "payload-part" | "vm" | "process" | "log" | "info";

/** One option. */
export interface OptionRow extends OptionSpec {
  readonly group: OptionGroup;
  /** Value when absent, in the option's own syntax. */
  readonly default?: string;
  /** Not an option of the original: known to the personality `nephos` only. */
  readonly extra?: true;
}

/** The options, in the order of the help text. */
export const OPTIONS = [
  { name: "kernel", arity: "one", group: "payload" },
  { name: "firmware", arity: "one", group: "payload" },
  { name: "fw-cfg-config", arity: "one", group: "payload" },
  { name: "config", arity: "one", group: "payload", extra: true },
  { name: "cmdline", arity: "one", group: "payload-part" },
  { name: "initramfs", arity: "one", group: "payload-part" },
  { name: "cpus", arity: "one", group: "vm", default: "boot=1,max_phys_bits=46" },
  { name: "memory", arity: "one", group: "vm", default: "size=512M" },
  { name: "memory-zone", arity: "list", group: "vm" },
  { name: "numa", arity: "list", group: "vm" },
  { name: "disk", arity: "list", group: "vm" },
  { name: "rate-limit-group", arity: "list", group: "vm" },
  { name: "net", arity: "list", group: "vm" },
  { name: "console", arity: "one", group: "vm", default: "tty" },
  { name: "serial", arity: "one", group: "vm", default: "null" },
  { name: "debug-console", arity: "one", group: "vm", default: "off,iobase=0xe9" },
  { name: "rng", arity: "one", group: "vm", default: "src=/dev/urandom" },
  { name: "rtc", arity: "optional", group: "vm" },
  { name: "balloon", arity: "one", group: "vm" },
  { name: "fs", arity: "list", group: "vm" },
  { name: "pmem", arity: "list", group: "vm" },
  { name: "vsock", arity: "one", group: "vm" },
  { name: "generic-vhost-user", arity: "list", group: "vm" },
  { name: "vdpa", arity: "list", group: "vm" },
  { name: "device", arity: "list", group: "vm" },
  { name: "user-device", arity: "list", group: "vm" },
  { name: "ivshmem", arity: "one", group: "vm" },
  { name: "tpm", arity: "one", group: "vm" },
  { name: "pvpanic", arity: "flag", group: "vm" },
  { name: "watchdog", arity: "flag", group: "vm" },
  { name: "platform", arity: "one", group: "vm" },
  { name: "pci-segment", arity: "list", group: "vm" },
  { name: "landlock", arity: "flag", group: "vm" },
  { name: "landlock-rules", arity: "list", group: "vm" },
  { name: "api-socket", arity: "one", group: "process" },
  { name: "event-monitor", arity: "one", group: "process" },
  { name: "restore", arity: "one", group: "process" },
  { name: "no-shutdown", arity: "flag", group: "process" },
  {
    name: "seccomp",
    arity: "one",
    group: "process",
    default: "true",
    choices: ["true", "false", "log", "errno"],
  },
  { name: "gdb", arity: "one", group: "process" },
  { name: "dbus-service-name", arity: "one", group: "process" },
  { name: "dbus-object-path", arity: "one", group: "process" },
  { name: "dbus-system-bus", arity: "flag", group: "process" },
  { name: "verbose", short: "v", arity: "count", group: "log" },
  { name: "log-file", arity: "one", group: "log" },
  { name: "log-format", arity: "one", group: "log" },
  { name: "version", short: "V", arity: "flag", group: "info" },
] as const satisfies readonly OptionRow[];

/** Name of an option. */
export type OptionName = (typeof OPTIONS)[number]["name"];

const rows: readonly OptionRow[] = OPTIONS;

/** The options one personality knows. */
export function optionsFor(extras: boolean): readonly OptionRow[] {
  return extras ? rows : rows.filter(({ extra }) => !extra);
}

/** Row of an option. */
export function optionRow(name: string): OptionRow | undefined {
  return rows.find((row) => row.name === name);
}

/**
 * The options of the VMM process: API socket, event monitor, debugger, D-Bus, log, seccomp.
 *
 * L6, main isolate, pure, loaded at every start: no tables, no schemas.
 * Source: spec/cli.md §2, spec/observed.md "Command line values"; texts as the original prints them.
 */
import { ContextError } from "@vmm/errors/context_error.ts";
import type { DbusOptions, LogOptions, PathOrFd, SeccompAction, VmmOptions } from "./command_result.ts";
import { OptionError } from "./option_error.ts";
import { readPairs, splitOutside, withoutQuotes } from "./option_parser.ts";
import type { OptionName } from "./options.ts";

/** Values by option, as `scanArguments()` gives them. */
export type OptionValues = ReadonlyMap<string, readonly string[]>;

const MAX_FD = 0x7fff_ffff;

/** The single value of an option, or undefined. */
export function single(values: OptionValues, name: OptionName): string | undefined {
  return values.get(name)?.[0];
}

/** Why `text` is no descriptor number, or undefined when it is one. */
function descriptorFault(text: string): string | undefined {
  if (text.startsWith("-")) return "descriptor number must not be negative";
  if (!/^\+?[0-9]+$/.test(text)) return "invalid digit found in string";
  return Number(text) > MAX_FD ? "number too large to fit in target type" : undefined;
}

/**
 * `path=<path>` or `fd=<fd>`; other parameters beside them are ignored, and what has neither is a path as a whole. A
 * descriptor wins over a path. @throws ContextError for a bad descriptor number
 */
function readApiSocket(text: string): PathOrFd {
  const found = new Map<string, string>();
  for (const part of splitOutside(text.trim(), ",") ?? []) {
    const equals = part.indexOf("=");
    if (equals > 0) found.set(part.slice(0, equals), withoutQuotes(part.slice(equals + 1).trim()));
  }
  const fd = found.get("fd");
  if (fd) {
    const fault = descriptorFault(fd);
    if (fault !== undefined) throw new ContextError(["Error parsing --api-socket"], OptionError.rule(fault));
    return { kind: "fd", fd: Number(fd) };
  }
  return { kind: "path", path: found.get("path") || text };
}

/** Reads `path=` or `fd=`, nothing else; `keys` are those allowed. */
function readPathOrFd(option: OptionName, text: string, keys: readonly string[]): PathOrFd {
  const label = `Error parsing --${option}`;
  try {
    const pairs = readPairs(text, (key) => keys.includes(key) ? true : undefined);
    const fd = pairs.get("fd");
    const path = pairs.get("path");
    if (fd) {
      const digits = withoutQuotes(fd);
      if (descriptorFault(digits) !== undefined) throw OptionError.conversion("fd", fd);
      return { kind: "fd", fd: Number(digits) };
    }
    if (path) return { kind: "path", path: withoutQuotes(path) };
  } catch (error) {
    if (error instanceof OptionError) throw new ContextError([label], error);
    throw error;
  }
  throw OptionError.rule(`${label}: ${keys.join(" or ")} required`);
}

/** `path=<path>` or `fd=<fd>`. @throws ContextError or OptionError */
function readEventMonitor(text: string): PathOrFd {
  return readPathOrFd("event-monitor", text, ["path", "fd"]);
}

/** `path=<path>`. @throws ContextError or OptionError */
function readGdbSocket(text: string): string {
  const socket = readPathOrFd("gdb", text, ["path"]);
  return socket.kind === "path" ? socket.path : "";
}

/** Name and path go together. @throws OptionError */
function dbusOptions(values: OptionValues): DbusOptions | undefined {
  const serviceName = single(values, "dbus-service-name");
  const objectPath = single(values, "dbus-object-path");
  if (serviceName === undefined && objectPath === undefined) return undefined;
  if (serviceName === undefined) throw OptionError.rule("`--dbus-service-name` option isn't provided");
  if (objectPath === undefined) throw OptionError.rule("`--dbus-object-path` option isn't provided");
  return { serviceName, objectPath, systemBus: values.has("dbus-system-bus") };
}

/** Where the log goes. Never throws. */
export function logOptions(values: OptionValues): LogOptions {
  const file = single(values, "log-file");
  const format = single(values, "log-format");
  return {
    verbosity: values.get("verbose")?.length ?? 0,
    ...(file !== undefined && { file }),
    ...(format !== undefined && { format }),
  };
}

/** All options of the process. @throws OptionError or ContextError for the first value that is refused */
export function vmmOptions(values: OptionValues): VmmOptions {
  const read = <T>(name: OptionName, reader: (text: string) => T): T | undefined => {
    const text = single(values, name);
    return text === undefined ? undefined : reader(text);
  };
  const apiSocket = read("api-socket", readApiSocket);
  const gdbSocket = read("gdb", readGdbSocket);
  const eventMonitor = read("event-monitor", readEventMonitor);
  const dbus = dbusOptions(values);
  return {
    ...(apiSocket && { apiSocket }),
    ...(eventMonitor && { eventMonitor }),
    ...(dbus && { dbus }),
    ...(gdbSocket !== undefined && { gdbSocket }),
    noShutdown: values.has("no-shutdown"),
    seccomp: (single(values, "seccomp") ?? "true") as SeccompAction,
    log: logOptions(values),
  };
}

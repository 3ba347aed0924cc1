/**
 * Help and usage texts of the remote client, at 80 columns.
 *
 * L6, main isolate, pure; loaded only when asked for.
 */
import { deviceParameters, userDeviceParameters } from "@schemas/cli/assigned_device.ts";
import { diskParameters } from "@schemas/cli/disk.ts";
import {
  receiveMigrationParameters,
  restoreParameters,
  sendMigrationParameters,
} from "@schemas/cli/migration.ts";
import { netParameters } from "@schemas/cli/net.ts";
import type { ParameterTable } from "@schemas/cli/parameter.ts";
import {
  fsParameters,
  genericVhostUserParameters,
  pmemParameters,
  vdpaParameters,
  vsockParameters,
} from "@schemas/cli/virtio_devices.ts";
import { fillParameters, wrap } from "@vmm/cli/help.ts";
import { optionNotation } from "@vmm/cli/usage_error.ts";
import { REMOTE_COMMANDS, type RemoteCommand } from "./commands.ts";

/** Parameters of the commands whose argument is a list of them. */
export const COMMAND_PARAMETERS: Readonly<Record<string, ParameterTable>> = {
  "add-device": deviceParameters,
  "add-disk": diskParameters,
  "add-fs": fsParameters,
  "add-generic-vhost-user": genericVhostUserParameters,
  "add-net": netParameters,
  "add-pmem": pmemParameters,
  "add-user-device": userDeviceParameters,
  "add-vdpa": vdpaParameters,
  "add-vsock": vsockParameters,
  restore: restoreParameters,
  "receive-migration": receiveMigrationParameters,
  "send-migration": sendMigrationParameters,
};

/** What arguments and options are that have no parameters, or another form beside them. */
export const WORD_TEXTS: Readonly<Record<string, string>> = {
  coredump: "`file://` URL of a file that does not exist yet.",
  create: "File with the configuration as JSON; standard input when it is `-` or absent.",
  "remove-device": "Identifier of the device.",
  resize: "Any of: number of vCPUs, size of memory, size of the balloon. Sizes may end in K, M or G.",
  "resize-disk": "Identifier of the disk and its new size, which may end in K, M or G.",
  "resize-zone": "Identifier of the zone and its new size, which may end in K, M or G.",
  "receive-migration": "A URL alone, as `unix:<path>`, or parameters:",
  "send-migration": "A URL alone, as `unix:<path>` (and `--local`), or parameters:",
  snapshot: "`file://` URL of an existing directory.",
};

const INDENT = 2;

/** The argument as usage lines show it: `[path]` when it may be absent. */
export function argumentNotation({ argument }: RemoteCommand): string {
  if (argument === undefined) return "";
  return argument.default === undefined ? `<${argument.name}>` : `[${argument.name}]`;
}

/** What follows program and command in a usage line. */
export function commandSummary(command: RemoteCommand): string {
  return [command.options === undefined ? "" : "[OPTIONS]", argumentNotation(command)].filter(Boolean).join(
    " ",
  );
}

/** Help of the whole client. */
export function remoteHelp(program: string): string {
  const width = Math.max(...REMOTE_COMMANDS.map(({ name }) => name.length)) + 2;
  return [
    "Control a running VMM.",
    "",
    `Usage: ${program} [OPTIONS] <COMMAND>`,
    "",
    "Commands:",
    ...REMOTE_COMMANDS.map(({ name, summary }) => `  ${name.padEnd(width)}${summary}`),
    `  ${"help".padEnd(width)}Print this text or the help of a command`,
    "",
    "Options:",
    "      --api-socket <api-socket>                UNIX socket of the VMM's REST API",
    "      --dbus-service-name <dbus-service-name>  Name of the VMM on a message bus",
    "      --dbus-object-path <dbus-object-path>    Path of its object there",
    "      --dbus-system-bus                        The system's bus",
    "  -h, --help                                   Print this text",
    "  -V, --version                                Print the version",
    "",
  ].join("\n");
}

/** Help of one command. */
export function commandHelp(program: string, command: RemoteCommand): string {
  const text = WORD_TEXTS[command.name];
  const table = COMMAND_PARAMETERS[command.name];
  return [
    `${command.summary}.`,
    "",
    ...wrap(
      `Usage: ${program} --api-socket <api-socket> ${command.name} ${commandSummary(command)}`.trimEnd(),
      0,
    ),
    ...(text === undefined && table === undefined ? [] : [""]),
    ...(text === undefined ? [] : wrap(text, INDENT)),
    ...(table === undefined ? [] : fillParameters(table, INDENT)),
    ...(command.options === undefined
      ? []
      : ["", "Options:", ...command.options.map((item) => `  ${optionNotation(item)}`)]),
    "",
  ].join("\n");
}

/** Text for standard error when there is no command. */
export function noCommandText(program: string): string {
  return `error: '${program}' requires a subcommand but one was not provided\n  [subcommands: ${
    [...REMOTE_COMMANDS.map(({ name }) => name), "help"].join(", ")
  }]\n\nUsage: ${program} [OPTIONS] <COMMAND>\n\nFor more information, try '--help'.\n`;
}

/**
 * Parameters of `--console`, `--serial` and `--debug-console`: a mode word, or `file=`, `socket=`.
 *
 * L0. Source: spec/cli.md §2 ("Console mode precedence").
 */
import type { ConsoleConfig, ConsoleMode, DebugConsoleConfig, SerialConfig } from "@schemas/api/console.ts";
import { parametersOf } from "./parameter.ts";
import { pciParameters } from "./pci_common.ts";

/** Parameters that select a mode, strongest first. */
export const CONSOLE_MODES: Readonly<Record<string, ConsoleMode>> = {
  off: "Off",
  pty: "Pty",
  tty: "Tty",
  null: "Null",
  file: "File",
  socket: "Socket",
};

const words = {
  off: { kind: "word", field: null, doc: "No such device" },
  pty: { kind: "word", field: null, doc: "A new pseudo terminal; its path is in `vm.info`" },
  tty: { kind: "word", field: null, doc: "Standard input and output" },
  null: { kind: "word", field: null, doc: "Output is thrown away" },
} as const;

const file = { kind: "string", field: "file", value: "<path>", doc: "Output goes into a file" } as const;
const socket = {
  kind: "string",
  field: "socket",
  value: "<path>",
  doc: "A UNIX socket, one client at a time",
} as const;

export const serialParameters = parametersOf<SerialConfig>()({ ...words, file, socket });

export const consoleParameters = parametersOf<ConsoleConfig>()({
  ...words,
  file,
  socket: { ...socket, hidden: true },
  ...pciParameters,
});

export const debugConsoleParameters = parametersOf<DebugConsoleConfig>()({
  ...words,
  file,
  iobase: { kind: "special", field: "iobase", value: "<0xPORT>", doc: "I/O port in hexadecimal" },
});

/**
 * Serial port, virtio console and debug console.
 *
 * L0. Source: spec/schemas.md "ConsoleConfig", "SerialConfig", "DebugConsoleConfig".
 */
import * as z from "zod";
import { choice, path, struct, u16 } from "@schemas/primitives.ts";
import { pciCommonFields, pciCommonShape } from "./pci_common.ts";

/** Where a console's bytes go. */
export const ConsoleModeSchema = choice("ConsoleMode", ["Off", "Pty", "Tty", "File", "Socket", "Null"]);
/** Where a console's bytes go. */
export type ConsoleMode = z.infer<typeof ConsoleModeSchema>;

const outputShape = {
  file: path().describe("Output file in mode File; in mode Pty the terminal's path, filled in").optional(),
  mode: ConsoleModeSchema,
  socket: path().describe("UNIX socket in mode Socket").optional(),
};
const outputFields = ["file", "mode", "socket"] as const;

export const SerialConfigSchema = struct("SerialConfig", outputShape, { flattened: [outputFields] });
/** The serial port. */
export type SerialConfig = z.infer<typeof SerialConfigSchema>;

export const ConsoleConfigSchema = struct("ConsoleConfig", { ...outputShape, ...pciCommonShape }, {
  flattened: [outputFields, pciCommonFields],
  omitFalse: ["iommu"],
});
/** The virtio console. */
export type ConsoleConfig = z.infer<typeof ConsoleConfigSchema>;

/** I/O port of the debug console unless configured. */
export const DEFAULT_DEBUG_CONSOLE_IOBASE = 0xe9;

export const DebugConsoleConfigSchema = struct("DebugConsoleConfig", {
  file: path().optional(),
  mode: ConsoleModeSchema,
  iobase: u16().describe("I/O port").optional(),
}, { requiredInSequence: ["iobase"] });
/** The debug console: an I/O port that takes bytes. */
export type DebugConsoleConfig = z.infer<typeof DebugConsoleConfigSchema>;

/**
 * The few questions about host files that validation asks.
 *
 * L6, main isolate.
 */
import { statSync } from "node:fs";
import type { ConfigHost } from "@schemas/rules/context.ts";

/** Answers from this host's file system. Never throws. */
export const hostFiles: ConfigHost = {
  pathExists: (path) => statSync(path, { throwIfNoEntry: false }) !== undefined,
  fileSizeBytes(path) {
    try {
      return statSync(path, { bigint: true }).size;
    } catch {
      return undefined;
    }
  },
};

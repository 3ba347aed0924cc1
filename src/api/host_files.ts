/**
 * The few questions about host files that validation asks.
 *
 * L6, main isolate.
 */
import type { ConfigHost } from "@schemas/rules/context.ts";
import { pathInfo } from "@vmm/backends/host_path.ts";

/** Answers from this host's file system. Never throws. */
export const hostFiles: ConfigHost = {
  pathExists: (path) => pathInfo(path) !== undefined,
  fileSizeBytes: (path) => pathInfo(path)?.sizeBytes,
};

/**
 * What lies at a path of the host.
 *
 * L4, main isolate. Deno's own calls: `node:fs` takes 25 ms to load, half of the program's start.
 */
import type { ConfigHost } from "@schemas/rules/context.ts";

/** As much as the checks of a configuration ask. */
export interface PathInfo {
  readonly isDirectory: boolean;
  readonly sizeBytes: bigint;
}

/** Looks at `path`, through symbolic links; undefined if there is nothing that can be looked at. Never throws. */
export function pathInfo(path: string): PathInfo | undefined {
  try {
    const { isDirectory, size } = Deno.statSync(path);
    return { isDirectory, sizeBytes: BigInt(size) };
  } catch {
    return undefined;
  }
}

/** What validation asks about files, answered from this host. Never throws. */
export const hostFiles: ConfigHost = {
  pathExists: (path) => pathInfo(path) !== undefined,
  fileSizeBytes: (path) => pathInfo(path)?.sizeBytes,
};

/** A file's contents. @throws Error naming what the host refused */
export function readFile(path: string): Uint8Array<ArrayBuffer> {
  return Deno.readFileSync(path);
}

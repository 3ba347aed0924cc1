/**
 * What the `file://` URLs of snapshots and core dumps name.
 *
 * L6, main isolate. Error texts observed on the original.
 */
import { pathInfo } from "@vmm/backends/host_path.ts";
import { StateError } from "@vmm/errors/state_error.ts";

const SCHEME = "file://";
const CONTEXT = "Failed to send migratable component snapshot";

/** The path; it is a folder. `above` is what comes first in an error. @throws StateError */
export function snapshotFolder(url: string, above: string): string {
  const refuse = (why: string) => StateError.refused(above, CONTEXT, why);
  if (!url.startsWith(SCHEME)) throw refuse(`Could not extract path from URL: ${url}`);
  const path = url.slice(SCHEME.length);
  if (!isFolder(path)) throw refuse(`Destination is not a directory: ${JSON.stringify(path)}`);
  return path;
}

/** The path of a core dump; nothing is there yet. @throws StateError */
export function coredumpFile(url: string): string {
  const refuse = (why: string) => StateError.refused("Error coredumping VM", "coredump", why);
  if (!url.startsWith(SCHEME)) throw refuse(`Could not extract file from URL: ${url}`);
  const path = url.slice(SCHEME.length);
  if (pathInfo(path) !== undefined) throw refuse("File exists (os error 17)");
  return path;
}

function isFolder(path: string): boolean {
  return pathInfo(path)?.isDirectory ?? false;
}

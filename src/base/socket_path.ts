/**
 * Paths of UNIX sockets.
 *
 * L0, pure, any isolate. Source: unix(7).
 */

/** `sun_path` without the NUL at its end. */
export const MAX_SOCKET_PATH_BYTES = 107;

/** Why no socket can have `path`, in the original's words; undefined when one can. */
export function socketPathFault(path: string): string | undefined {
  if (path === "") return "path must not be empty";
  return new TextEncoder().encode(path).length > MAX_SOCKET_PATH_BYTES
    ? "path must be shorter than SUN_LEN"
    : undefined;
}

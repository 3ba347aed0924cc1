/**
 * Parameters of options of the VMM process: sockets and files given by path or descriptor.
 *
 * L0. Source: spec/cli.md §2.
 */
import { parametersOf } from "./parameter.ts";

interface PathOrFdFields {
  readonly path?: string;
  readonly fd?: number;
}

const path = { kind: "string", field: "path", value: "<path>" } as const;
const fd = { kind: "i32", field: "fd", value: "<fd>" } as const;

export const apiSocketParameters = parametersOf<PathOrFdFields>()({
  path: { ...path, doc: "UNIX socket to listen on; `path=` may be left out" },
  fd: { ...fd, doc: "Open, listening UNIX socket" },
});

export const eventMonitorParameters = parametersOf<PathOrFdFields>()({
  path: { ...path, doc: "File, created or truncated" },
  fd: { ...fd, doc: "Open file or pipe" },
});

export const gdbParameters = parametersOf<Pick<PathOrFdFields, "path">>()({
  path: { ...path, doc: "UNIX socket the debugger connects to" },
});

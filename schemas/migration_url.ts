/**
 * Where a migration goes to or comes from: `unix:<path>` or `tcp:<host>:<port>`.
 *
 * L0, pure. Source: spec/lifecycle.md migration; texts as observed on the original.
 */

/** One end of a migration. An IPv6 host has no brackets here. */
export type MigrationUrl =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number };

/** Why a URL is none: the scheme is unknown, or the address after `tcp:` is malformed in the way told. */
export interface MigrationUrlFault {
  readonly kind: "fault";
  readonly reason: "scheme" | "address";
  /** Texts outermost first; empty for an unknown scheme. */
  readonly details: readonly string[];
}

const MAX_PORT = 65535;

const addressFault = (...details: string[]): MigrationUrlFault => ({
  kind: "fault",
  reason: "address",
  details,
});

/** Parses `url`. Never throws. */
export function parseMigrationUrl(url: string): MigrationUrl | MigrationUrlFault {
  if (url.startsWith("unix:") && url.length > "unix:".length) {
    return { kind: "unix", path: url.slice("unix:".length) };
  }
  if (!url.startsWith("tcp:")) return { kind: "fault", reason: "scheme", details: [] };
  const address = url.slice("tcp:".length);
  return address.startsWith("[") ? bracketed(address) : plain(address);
}

function bracketed(address: string): MigrationUrl | MigrationUrlFault {
  const end = address.indexOf("]");
  if (end < 0) return addressFault("Missing closing ']' for bracketed IPv6 address");
  if (address[end + 1] !== ":") return addressFault("Missing port separator after bracketed host");
  return hostAndPort(address.slice(1, end), address.slice(end + 2));
}

function plain(address: string): MigrationUrl | MigrationUrlFault {
  const colon = address.lastIndexOf(":");
  if (colon < 0) return addressFault("Missing TCP port");
  return hostAndPort(address.slice(0, colon), address.slice(colon + 1));
}

function hostAndPort(host: string, port: string): MigrationUrl | MigrationUrlFault {
  if (host === "") return addressFault("Host must not be empty");
  if (port === "") return addressFault("Port must not be empty");
  const invalid = (why: string) => addressFault(`Invalid TCP port: ${port}`, why);
  if (!/^\+?[0-9]+$/.test(port)) return invalid("invalid digit found in string");
  if (Number(port) > MAX_PORT) return invalid("number too large to fit in target type");
  return { kind: "tcp", host, port: Number(port) };
}

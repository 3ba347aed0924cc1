/**
 * Request bodies of the sub-commands, from their arguments.
 *
 * L6, main isolate, no zod: fields are written in the order of the parameter tables, as the original sends them.
 * Source: spec/cli.md §7; texts as the original prints them.
 */
import { readFileSync, statSync } from "node:fs";
import type { ReceiveMigrationData, RestoreConfig, SendMigrationData } from "@schemas/api/migration.ts";
import { receiveMigrationParameters, sendMigrationParameters } from "@schemas/cli/migration.ts";
import { validateReceiveMigration, validateSendMigration } from "@schemas/validate_requests.ts";
import {
  readDevice,
  readDisk,
  readFs,
  readGenericVhostUser,
  readNet,
  readPmem,
  readUserDevice,
  readVdpa,
  readVsock,
} from "@vmm/cli/device_options.ts";
import { OptionError } from "@vmm/cli/option_error.ts";
import { readSize } from "@vmm/cli/option_parser.ts";
import { labelled, readOption } from "@vmm/cli/option_reader.ts";
import { readRestore } from "@vmm/cli/vm_options.ts";
import { ContextError } from "@vmm/errors/context_error.ts";

/** A body and the descriptors that go with the request. */
export interface RemoteBody {
  readonly body?: Uint8Array<ArrayBuffer>;
  readonly fds: readonly number[];
}

/** Arguments of a command: the word after its name, and its options. */
export interface CommandArguments {
  readonly word: string | undefined;
  readonly options: ReadonlyMap<string, readonly string[]>;
}

/** Standard input, read to its end when a command wants it. */
export type ReadInput = () => Uint8Array<ArrayBuffer>;

/** JSON with exact 64-bit integers; `undefined` is left out, a false `iommu` too. */
export function writeBody(value: unknown): string {
  if (typeof value === "bigint") return value.toString();
  if (Array.isArray(value)) return `[${value.map(writeBody).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const members = Object.entries(value).filter(([key, item]) =>
    item !== undefined && !(key === "iommu" && item === false)
  );
  return `{${members.map(([key, item]) => `${JSON.stringify(key)}:${writeBody(item)}`).join(",")}}`;
}

const encode = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
const json = (value: unknown, fds: readonly number[] = []): RemoteBody => ({
  body: encode(writeBody(value)),
  fds,
});

/** Both buckets are written, a missing one as null, as the server's own output has them. */
function withBothBuckets<T extends { rate_limiter_config?: { bandwidth?: unknown; ops?: unknown } }>(
  config: T,
) {
  const limiter = config.rate_limiter_config;
  return limiter === undefined ? config : {
    ...config,
    rate_limiter_config: { bandwidth: limiter.bandwidth ?? null, ops: limiter.ops ?? null },
  };
}

/** Puts `label` above what `read` throws. */
function under<T>(label: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new ContextError([label], error);
  }
}

function sizeOf(label: string, text: string): bigint {
  const size = text.includes('"') ? undefined : readSize(text);
  if (size === undefined) throw new ContextError([label], OptionError.invalidValue(text));
  return size;
}

const MAX_U32 = 0xffff_ffff;

function cpuCount(text: string): number {
  const fault = !/^\+?[0-9]+$/.test(text)
    ? (text === "" ? "cannot parse integer from empty string" : "invalid digit found in string")
    : Number(text) > MAX_U32
    ? "number too large to fit in target type"
    : undefined;
  if (fault !== undefined) throw new ContextError(["Error parsing CPU count"], OptionError.rule(fault));
  return Number(text);
}

function resizeBody(options: CommandArguments["options"]): RemoteBody {
  const [cpus] = options.get("cpus") ?? [];
  const [memory] = options.get("memory") ?? [];
  const [balloon] = options.get("balloon") ?? [];
  return json({
    desired_vcpus: cpus === undefined ? null : cpuCount(cpus),
    desired_ram: memory === undefined ? null : sizeOf("Error parsing memory size", memory),
    desired_balloon: balloon === undefined ? null : sizeOf("Error parsing balloon size", balloon),
  });
}

type Handed = { readonly vfio_fds?: readonly { readonly fd?: number }[]; readonly iommufd_fd?: number };

const handedFds = ({ vfio_fds = [], iommufd_fd }: Handed): number[] =>
  [...vfio_fds.map(({ fd }) => fd), iommufd_fd].filter((fd) => fd !== undefined);

/** Entries without their descriptors, which travel beside the body. */
const withoutFds = (entries: RestoreConfig["vfio_fds"]) =>
  entries?.map(({ id }) => ({ id, fd: null })) ?? null;

function restoreBody(text: string): RemoteBody {
  const restore = under("Error parsing restore syntax", () => readRestore(text));
  return json({
    source_url: restore.source_url,
    prefault: restore.prefault,
    memory_restore_mode: restore.memory_restore_mode,
    net_fds: restore.net_fds?.map(({ id, num_fds }) => ({ id, num_fds, fds: null })) ?? null,
    vfio_fds: withoutFds(restore.vfio_fds),
    iommufd_fd: null,
    resume: restore.resume,
    zone_updates: restore.zone_updates,
  }, [...(restore.net_fds ?? []).flatMap(({ fds }) => fds ?? []), ...handedFds(restore)]);
}

/** A URL alone is the older form of a migration argument. */
const isBareUrl = (text: string) => /^(unix|tcp):/.test(text);

/** The original looks no further than whether the directory is there. */
function requireTlsDir(path: string | undefined, describe: (reason: string) => Error): void {
  if (path !== undefined && statSync(path, { throwIfNoEntry: false }) === undefined) {
    throw describe("No such file or directory (os error 2)");
  }
}

function receiveBody(text: string): RemoteBody {
  const data = under("Error parsing receive migration configuration", () => {
    const fields = isBareUrl(text) ? { receiver_url: text, memory_mode: "Precopy" } : readFields(
      "Error parsing receive migration parameters",
      "receiver_url is required",
      "receiver_url",
      receiveMigrationParameters,
      text,
    );
    const read = { zone_updates: [], ...fields } as unknown as ReceiveMigrationData & Handed;
    const fault = validateReceiveMigration(read);
    if (fault !== undefined) throw nested(fault.messages);
    requireTlsDir(read.tls_dir, (reason) =>
      nested([
        "Invalid TLS configuration for receive-migration",
        `TLS directory does not exist or is inaccessible: ${read.tls_dir}: ${reason}`,
        reason,
      ]));
    return read;
  });
  return json({
    receiver_url: data.receiver_url,
    tls_dir: data.tls_dir ?? null,
    memory_mode: data.memory_mode,
    vfio_fds: withoutFds(data.vfio_fds),
    iommufd_fd: null,
    zone_updates: data.zone_updates,
  }, handedFds(data));
}

/** An error whose chain is `messages`. */
function nested(messages: readonly string[]): Error {
  const [first, ...rest] = messages;
  return rest.length === 0 ? OptionError.rule(first) : new ContextError([first], nested(rest));
}

/** Fields of a migration argument; `required` is the key that must be there. */
function readFields(
  label: string,
  missing: string,
  required: string,
  table: typeof receiveMigrationParameters,
  text: string,
): Record<string, unknown> {
  return labelled(label, () => {
    const { fields } = readOption({ ...table, [required]: { ...table[required], missing: undefined } }, text);
    if (fields[required] === undefined) throw OptionError.invalidSyntax(missing);
    return fields;
  });
}

function sendBody(text: string, local: boolean): RemoteBody {
  const label = "Error parsing send migration parameters";
  const read = isBareUrl(text)
    ? `destination_url="${text.replaceAll('"', '""')}"${local ? ",local=on" : ""}`
    : text;
  const data = under("Error parsing send migration configuration", () => {
    const fields = readFields(
      label,
      "destination_url is required",
      "destination_url",
      sendMigrationParameters,
      read,
    ) as unknown as SendMigrationData;
    for (const key of ["downtime_ms", "timeout_s", "connections"] as const) {
      if (BigInt(fields[key]) === 0n) {
        throw new ContextError([label], OptionError.invalidValue(`${key} must be non-zero`));
      }
    }
    const fault = validateSendMigration(fields);
    if (fault !== undefined) throw nested(fault.messages);
    requireTlsDir(fields.tls_dir, (reason) =>
      OptionError.rule(
        "Error validating send migration parameters: invalid TLS configuration for send-migration: " +
          `TLS directory does not exist or is inaccessible: ${fields.tls_dir}: ${reason}`,
      ));
    return fields;
  });
  return json({
    destination_url: data.destination_url,
    local: data.local,
    preserve_source: data.preserve_source,
    downtime_ms: data.downtime_ms,
    timeout_s: data.timeout_s,
    timeout_strategy: data.timeout_strategy,
    connections: data.connections,
    tls_dir: data.tls_dir ?? null,
    memory_mode: data.memory_mode,
  });
}

function createBody(path: string, readInput: ReadInput): RemoteBody {
  const body = path === "-"
    ? under("Error reading from stdin", readInput)
    : under("Error reading from file", () => new Uint8Array(readFileSync(path)));
  return { body, fds: [] };
}

function netBody(text: string): RemoteBody {
  const { fds = [], ...net } = under("Error parsing network syntax", () => readNet(text));
  return json(withBothBuckets(net), fds);
}

function deviceBody(text: string): RemoteBody {
  const { fd, ...device } = under("Error parsing device syntax", () => readDevice(text));
  return json(device, fd === undefined ? [] : [fd]);
}

const plain = (label: string, read: (text: string) => unknown) => (text: string): RemoteBody =>
  json(under(label, () => read(text)));

/** Body makers of the commands that have one word and nothing else. */
const WORD_BODIES: Readonly<Record<string, (text: string) => RemoteBody>> = {
  "add-device": deviceBody,
  "add-disk": plain("Error parsing disk syntax", (text) => withBothBuckets(readDisk(text))),
  "add-fs": plain("Error parsing filesystem syntax", readFs),
  "add-generic-vhost-user": plain("Error parsing generic vhost-user syntax", readGenericVhostUser),
  "add-net": netBody,
  "add-pmem": plain("Error parsing persistent memory syntax", readPmem),
  "add-user-device": plain("Error parsing user device syntax", readUserDevice),
  "add-vdpa": plain("Error parsing vDPA device syntax", readVdpa),
  "add-vsock": plain("Error parsing vsock syntax", readVsock),
  coredump: (text) => json({ destination_url: text }),
  "receive-migration": receiveBody,
  "remove-device": (text) => json({ id: text }),
  restore: restoreBody,
  snapshot: (text) => json({ destination_url: text }),
};

/**
 * The body of command `name` and the descriptors to send with it; no body for commands without arguments.
 * @throws ContextError with the chain the original prints
 */
export function remoteBody(
  name: string,
  { word = "", options }: CommandArguments,
  readInput: ReadInput,
): RemoteBody {
  switch (name) {
    case "create":
      return createBody(word, readInput);
    case "resize":
      return resizeBody(options);
    case "resize-disk":
      return json({
        id: options.get("disk")?.[0],
        desired_size: sizeOf("Invalid disk size", options.get("size")?.[0] ?? ""),
      });
    case "resize-zone":
      return json({
        id: options.get("id")?.[0],
        desired_ram: sizeOf("Error parsing memory size", options.get("size")?.[0] ?? ""),
      });
    case "send-migration":
      return sendBody(word, options.has("local"));
    default:
      return WORD_BODIES[name]?.(word) ?? { fds: [] };
  }
}

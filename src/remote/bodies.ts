/**
 * Request bodies of the sub-commands, from their arguments.
 *
 * L6, main isolate, no zod.
 * Source: spec/cli.md §7; texts as the original prints them.
 */
import { readFileSync } from "node:fs";
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
import { readRestore } from "@vmm/cli/vm_options.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import { handedFds, json, type RemoteBody, under, withoutFds } from "./body.ts";
import { receiveBody, sendBody } from "./migration_bodies.ts";

/** Arguments of a command: the word after its name, and its options. */
export interface CommandArguments {
  readonly word: string | undefined;
  readonly options: ReadonlyMap<string, readonly string[]>;
}

/** Standard input, read to its end when a command wants it. */
export type ReadInput = () => Uint8Array<ArrayBuffer>;

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

function sizeOf(label: string, text: string): bigint {
  const size = text.includes('"') ? undefined : readSize(text);
  if (size === undefined) throw new ContextError([label], OptionError.invalidValue(text));
  return size;
}

const MAX_U32 = 0xffff_ffff;

/** Why `text` is no count, or undefined when it is one; of two faults the one that comes first in the text. */
function countFault(text: string): string | undefined {
  if (text === "") return "cannot parse integer from empty string";
  const [start] = /^\+?[0-9]*/.exec(text)!;
  if (Number(start) > MAX_U32) return "number too large to fit in target type";
  return /^\+?[0-9]+$/.test(text) ? undefined : "invalid digit found in string";
}

function cpuCount(text: string): number {
  const fault = countFault(text);
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

/** `bytes`, which must be text. @throws OptionError */
function requireText(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return bytes;
  } catch {
    throw OptionError.rule("stream did not contain valid UTF-8");
  }
}

function createBody(path: string, readInput: ReadInput): RemoteBody {
  const body = path === "-"
    ? under("Error reading from stdin", () => requireText(readInput()))
    : under("Error reading from file", () => requireText(new Uint8Array(readFileSync(path))));
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

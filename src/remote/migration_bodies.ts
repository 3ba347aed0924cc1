/**
 * Request bodies of `send-migration` and `receive-migration`.
 *
 * L6, main isolate, no zod. Beside the original's `key=value` form the older one is accepted: a URL alone, with `--local`.
 * Source: spec/cli.md §7, spec/since-seed.md; texts as the original prints them.
 */
import { statSync } from "node:fs";
import type { ReceiveMigrationData, SendMigrationData } from "@schemas/api/migration.ts";
import { receiveMigrationParameters, sendMigrationParameters } from "@schemas/cli/migration.ts";
import type { ParameterTable } from "@schemas/cli/parameter.ts";
import { validateReceiveMigration, validateSendMigration } from "@schemas/validate_requests.ts";
import { OptionError } from "@vmm/cli/option_error.ts";
import { labelled, readOption } from "@vmm/cli/option_reader.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import {
  type HandedDescriptors,
  handedFds,
  json,
  nested,
  type RemoteBody,
  under,
  withoutFds,
} from "./body.ts";

/** A URL alone is the older form of a migration argument. */
const isBareUrl = (text: string) => /^(unix|tcp):/.test(text);

/** Why `directory` cannot serve as `tls_dir` of a `side`, outermost text first; undefined when it can. */
function tlsFault(directory: string, side: "client" | "server"): string[] | undefined {
  const kind = statSync(directory, { throwIfNoEntry: false });
  if (kind === undefined) {
    const reason = "No such file or directory (os error 2)";
    return [`TLS directory does not exist or is inaccessible: ${directory}: ${reason}`, reason];
  }
  if (!kind.isDirectory()) return [`TLS directory must point to a directory: ${directory}`];
  const missing = ["ca-cert.pem", `${side}-cert.pem`, `${side}-key.pem`].map((name) => `${directory}/${name}`)
    .find((path) => statSync(path, { throwIfNoEntry: false }) === undefined);
  return missing === undefined ? undefined : [`Missing required TLS file for migration ${side}: ${missing}`];
}

/** Body of `receive-migration`. @throws ContextError */
export function receiveBody(text: string): RemoteBody {
  const data = under("Error parsing receive migration configuration", () => {
    const fields = isBareUrl(text) ? { receiver_url: text, memory_mode: "Precopy" } : readFields(
      "Error parsing receive migration parameters",
      "receiver_url is required",
      "receiver_url",
      receiveMigrationParameters,
      text,
    );
    const read = { zone_updates: [], ...fields } as unknown as ReceiveMigrationData & HandedDescriptors;
    const fault = validateReceiveMigration(read);
    if (fault !== undefined) throw nested(fault.messages);
    const tls = read.tls_dir === undefined ? undefined : tlsFault(read.tls_dir, "server");
    if (tls !== undefined) throw nested(["Invalid TLS configuration for receive-migration", ...tls]);
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

/** Fields of a migration argument; `required` is the key that must be there. */
function readFields(
  label: string,
  missing: string,
  required: string,
  table: ParameterTable,
  text: string,
): Record<string, unknown> {
  return labelled(label, () => {
    const { fields } = readOption(
      { ...table, [required]: { ...table[required], missing: undefined } },
      text,
      {
        check: (given) => {
          if (!given.get(required)) throw OptionError.invalidSyntax(missing);
        },
      },
    );
    return fields;
  });
}

/** Body of `send-migration`; `local` is the older form's flag. @throws ContextError */
export function sendBody(text: string, local: boolean): RemoteBody {
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
    const [tls] = (fields.tls_dir === undefined ? undefined : tlsFault(fields.tls_dir, "client")) ?? [];
    if (tls !== undefined) {
      throw OptionError.rule(
        `Error validating send migration parameters: invalid TLS configuration for send-migration: ${tls}`,
      );
    }
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

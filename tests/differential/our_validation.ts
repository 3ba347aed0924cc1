/**
 * What our rules answer to a configuration, in the form of the original's answer to `vm.add-disk`.
 *
 * Tests only.
 */
import assert from "node:assert/strict";
import { DiskConfigSchema } from "@schemas/api/disk.ts";
import { VmConfigSchema } from "@schemas/api/vm_config.ts";
import { readJson } from "@schemas/json/reader.ts";
import type { ConfigHost } from "@schemas/rules/context.ts";
import { validateVmConfig } from "@schemas/validate.ts";

/** The original validates on every added device; this one breaks no rule of its own. */
export const PROBE = '{"id":"probe","num_queues":0}';

const host: ConfigHost = {
  pathExists: (path) => statOf(path) !== undefined,
  fileSizeBytes: (path) => {
    const size = statOf(path)?.size;
    return size === undefined ? undefined : BigInt(size);
  },
};

function statOf(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.statSync(path);
  } catch {
    return undefined;
  }
}

/** Status and body of adding PROBE to the configuration `body`. */
export function ourAnswer(body: string): string {
  const read = readJson(VmConfigSchema, body);
  const probe = readJson(DiskConfigSchema, PROBE);
  assert.ok(read.ok && probe.ok, body);
  const error = validateVmConfig({ ...read.value, disks: [...read.value.disks ?? [], probe.value] }, host);
  if (error === undefined) return "204 ";
  const messages = ["Error from API", "The disk could not be added to the VM", ...error.chain()];
  return `${error.status} ${JSON.stringify(messages)}`;
}

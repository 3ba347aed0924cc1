/**
 * Writes the single-file program: launcher ELF, payload, manifest, trailer.
 *
 * A build script. The format is described where it is read, at the top of `launcher.c`.
 *
 * @module
 */

import { createHash } from "node:crypto";

/** A file of the payload. */
export interface PayloadFile {
  /** Name in its group's directory; no slash, no space. */
  name: string;
  /** Where its bytes are now. */
  path: string;
  /** Permission bits. */
  mode: number;
}

/** Files that are unpacked together into one directory named after their contents. */
export interface PayloadGroup {
  /** Prefix of the directory name. */
  label: string;
  files: PayloadFile[];
  /** Symbolic links, name → target; a target may use `{label}` for another group's directory. */
  links?: Record<string, string>;
}

/** What the launcher executes once the groups are unpacked. */
export interface Launch {
  /** Label of the group that holds program link and script. */
  group: string;
  program: string;
  script: string;
  /** Arguments of the runtime before the script, one manifest line each. */
  arguments: string[];
}

const MAGIC = "NEPHOS-1";
const TRAILER_BYTES = 32;

/**
 * Writes `output` (mode 0755) through a temporary file and a rename, so that a running program is not disturbed.
 *
 * @returns size of the file in bytes
 */
export async function writePackage(
  output: string,
  launcher: string,
  groups: PayloadGroup[],
  launch: Launch,
): Promise<number> {
  const part = `${output}.part-${Deno.pid}`;
  const out = await Deno.open(part, { write: true, create: true, truncate: true, mode: 0o755 });
  try {
    let offset = await append(out, launcher);
    const directories: Record<string, string> = {};
    const lines: string[] = [];
    for (const group of groups) {
      const entries: string[] = [];
      const digest = createHash("sha256");
      for (const file of group.files) {
        checkName(file.name);
        const sizeBytes = await append(out, file.path, digest);
        entries.push(`file ${file.mode.toString(8)} ${offset} ${sizeBytes} ${file.name}`);
        digest.update(`\0${file.name}\0${file.mode}\0${sizeBytes}\0`);
        offset += sizeBytes;
      }
      for (const [name, target] of Object.entries(group.links ?? {})) {
        checkName(name);
        const link = `link ${name} ${target.replace(/\{(\w+)\}/g, (_, label) => directories[label])}`;
        entries.push(link);
        digest.update(`\0${link}\0`);
      }
      directories[group.label] = `${group.label}-${digest.digest("hex").slice(0, 24)}`;
      lines.push(`dir ${directories[group.label]}`, ...entries);
    }
    lines.push(...launch.arguments.map((argument) => `arg ${argument}`));
    lines.push(`run ${directories[launch.group]} ${launch.program} ${launch.script}`);
    const manifest = new TextEncoder().encode(lines.join("\n") + "\n");
    const totalBytes = offset + manifest.length + TRAILER_BYTES;
    await writeAll(out, manifest);
    await writeAll(out, trailer(offset, manifest.length, totalBytes));
    await Deno.rename(part, output);
    return totalBytes;
  } catch (error) {
    await Deno.remove(part).catch(() => {});
    throw error;
  } finally {
    out.close();
  }
}

function trailer(manifestOffset: number, manifestBytes: number, totalBytes: number): Uint8Array {
  const bytes = new Uint8Array(TRAILER_BYTES);
  bytes.set(new TextEncoder().encode(MAGIC));
  const view = new DataView(bytes.buffer);
  view.setBigUint64(8, BigInt(manifestOffset), true);
  view.setBigUint64(16, BigInt(manifestBytes), true);
  view.setBigUint64(24, BigInt(totalBytes), true);
  return bytes;
}

function checkName(name: string): void {
  if (!/^[\w.-]{1,200}$/.test(name)) throw new Error(`Cannot put "${name}" into the package: bad file name`);
}

async function append(
  out: Deno.FsFile,
  path: string,
  digest?: { update(data: Uint8Array): unknown },
): Promise<number> {
  using input = await Deno.open(path);
  const buffer = new Uint8Array(1 << 20);
  let sizeBytes = 0;
  for (;;) {
    const count = await input.read(buffer);
    if (count === null) return sizeBytes;
    const chunk = buffer.subarray(0, count);
    digest?.update(chunk);
    await writeAll(out, chunk);
    sizeBytes += count;
  }
}

async function writeAll(out: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await out.write(bytes.subarray(done));
}

/**
 * Disk images for tests: raw files with known contents.
 *
 * Test framework.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { join } from "node:path";
import { run } from "./command.ts";

const SECTOR_BYTES = 512;

/** A file in a directory of its own; removed at the end of the scope. */
export class TempDisk implements AsyncDisposable {
  private constructor(readonly directory: string, readonly path: string) {}

  /** A sparse file of zeros. */
  static async empty(sizeBytes: number): Promise<TempDisk> {
    const disk = await TempDisk.#make();
    await Deno.writeFile(disk.path, new Uint8Array(0));
    await Deno.truncate(disk.path, sizeBytes);
    return disk;
  }

  /** A file whose every sector is different and can be told from its number, see {@link patternSector}. */
  static async pattern(sizeBytes: number): Promise<TempDisk> {
    const disk = await TempDisk.#make();
    using file = await Deno.open(disk.path, { write: true, create: true });
    for (let sector = 0; sector < sizeBytes / SECTOR_BYTES; sector++) await file.write(patternSector(sector));
    return disk;
  }

  /** A file that begins with the given bytes, zeros behind. */
  static async withContent(content: string | Uint8Array, sizeBytes: number): Promise<TempDisk> {
    const disk = await TempDisk.#make();
    await Deno.writeFile(
      disk.path,
      typeof content === "string" ? new TextEncoder().encode(content) : content,
    );
    await Deno.truncate(disk.path, sizeBytes);
    return disk;
  }

  /** An ext4 file system; `files` are put into its root. Needs mkfs.ext4. */
  static async ext4(sizeBytes: number, files: Record<string, string> = {}): Promise<TempDisk> {
    const disk = await TempDisk.empty(sizeBytes);
    const root = join(disk.directory, "root");
    await Deno.mkdir(root);
    for (const [name, content] of Object.entries(files)) await Deno.writeTextFile(join(root, name), content);
    await run("mkfs.ext4", "-q", "-F", "-d", root, disk.path);
    return disk;
  }

  static async #make(): Promise<TempDisk> {
    const directory = await Deno.makeTempDir({ prefix: "nephos-disk-" });
    return new TempDisk(directory, join(directory, "disk.img"));
  }

  /** `lengthBytes` from the file, from `offset` on. */
  async read(offset: number, lengthBytes: number): Promise<Uint8Array> {
    using file = await Deno.open(this.path);
    await file.seek(offset, Deno.SeekMode.Start);
    const bytes = new Uint8Array(lengthBytes);
    let done = 0;
    while (done < lengthBytes) {
      const count = await file.read(bytes.subarray(done));
      if (count === null) throw new Error(`"${this.path}" ends at ${offset + done}`);
      done += count;
    }
    return bytes;
  }

  /** SHA-256 of the whole file, in hexadecimal. */
  async sha256(): Promise<string> {
    return createHash("sha256").update(await Deno.readFile(this.path)).digest("hex");
  }

  /** Bytes that the file really occupies. */
  async allocatedBytes(): Promise<number> {
    return ((await Deno.stat(this.path)).blocks ?? 0) * SECTOR_BYTES;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.directory, { recursive: true });
  }
}

/** The 512 bytes of sector `number` in a pattern disk: its number in every 4 bytes, mixed with the position. */
export function patternSector(number: number): Uint8Array {
  const words = new Uint32Array(SECTOR_BYTES / 4);
  for (let index = 0; index < words.length; index++) {
    words[index] = (Math.imul(number, 0x9e37_79b1) ^ Math.imul(index + 1, 0x85eb_ca6b)) >>> 0;
  }
  return new Uint8Array(words.buffer);
}

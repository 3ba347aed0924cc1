/**
 * Writes a disk image without end, until it is killed: the victim of the crash tests.
 *
 * Run as a program: path, image type, seed, first operation. Prints the number of each operation that was flushed.
 */
import { attachDisk } from "@vmm/backends/disk/attach.ts";
import { openDisk } from "@vmm/backends/disk/open.ts";
import { diskRequest, random, waitFor, writeDisk } from "@vmm/backends/disk/testing/images.ts";
import type { ImageType } from "@schemas/api/disk.ts";

const SECTOR = 512;

/** An operation; `seal` writes it into each sector it covers. */
export type WriterOperation =
  | { readonly kind: "write"; readonly first: number; readonly sectors: number }
  | { readonly kind: "clear"; readonly first: number; readonly sectors: number; readonly mayUnmap: boolean }
  | { readonly kind: "flush" };

/** The operations of a seed, the same for the writer and for whoever checks its work. */
export function* operations(seed: number, diskSectors: number): Generator<WriterOperation> {
  const next = random(seed);
  for (;;) {
    const choice = next(12);
    const sectors = 1 + next(choice < 3 ? 600 : 24);
    const first = next(diskSectors - sectors);
    if (choice === 11) yield { kind: "flush" };
    else if (choice === 10) yield { kind: "clear", first, sectors, mayUnmap: next(2) === 0 };
    else yield { kind: "write", first, sectors };
  }
}

/** What sector `sector` contains once operation `number` has written it. */
export function seal(sector: number, number: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(SECTOR / 4).fill(number);
  words[0] = sector;
  return new Uint8Array(words.buffer);
}

function work(path: string, type: ImageType, seed: number, start: number): void {
  const opened = openDisk(diskRequest(path, { image_type: type, backing_files: true }));
  const disk = attachDisk(opened.description);
  const encoder = new TextEncoder();
  let number = 0;
  for (const operation of operations(seed, disk.sizeBytes / SECTOR)) {
    number++;
    if (number < start) continue;
    if (operation.kind === "flush") {
      if (waitFor(disk, disk.flush(0)) !== 0) Deno.exit(1);
      Deno.stdout.writeSync(encoder.encode(`${number}\n`));
      continue;
    }
    const { first, sectors } = operation;
    if (operation.kind === "clear") {
      const result = disk.writeZeroes(0, first * SECTOR, sectors * SECTOR, operation.mayUnmap);
      if (waitFor(disk, result) !== 0) Deno.exit(1);
      continue;
    }
    const data = new Uint8Array(sectors * SECTOR);
    for (let i = 0; i < sectors; i++) data.set(seal(first + i, number), i * SECTOR);
    writeDisk(disk, first * SECTOR, data);
  }
}

if (import.meta.main) {
  const [path, type, seed, start] = Deno.args;
  work(path, type as ImageType, Number(seed), Number(start));
}

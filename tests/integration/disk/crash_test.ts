/**
 * Kills a process that writes an image, again and again: the image stays sound, and what was flushed is there.
 */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { attachDisk } from "@vmm/backends/disk/attach.ts";
import { openDisk } from "@vmm/backends/disk/open.ts";
import {
  checkImage,
  diskRequest,
  hasQemuImg,
  pattern,
  qemuImg,
  random,
  withDirectory,
} from "@vmm/backends/disk/testing/images.ts";
import type { ImageType } from "@schemas/api/disk.ts";
import { operations, seal } from "./image_writer.ts";

const MIB = 1 << 20;
const SECTOR = 512;
const ROUNDS = 6;
const WRITER = fileURLToPath(new URL("./image_writer.ts", import.meta.url));

/** Runs the writer for a while and kills it; the last operation it had flushed. */
async function writeAndKill(path: string, type: ImageType, seed: number, start: number, ms: number) {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", WRITER, path, type, `${seed}`, `${start}`],
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  let text = "";
  const decoder = new TextDecoder();
  let timer: ReturnType<typeof setTimeout> | undefined;
  for await (const chunk of child.stdout) {
    text += decoder.decode(chunk);
    // The clock starts with the first flush: by then the program is at work.
    timer ??= setTimeout(() => child.kill("SIGKILL"), ms);
  }
  clearTimeout(timer);
  const { signal } = await child.status;
  assert.equal(signal, "SIGKILL", "the writer ended by itself");
  return Number(text.trimEnd().split("\n").at(-1));
}

/** Which operation each sector shows; 0 for zeroes. */
function sealsIn(bytes: Uint8Array<ArrayBuffer>): Uint32Array {
  const words = new Uint32Array(bytes.buffer);
  const found = new Uint32Array(bytes.length / SECTOR);
  for (let sector = 0; sector < found.length; sector++) {
    const number = words[sector * 128 + 1];
    found[sector] = number;
    const expected = number === 0 ? new Uint8Array(SECTOR) : seal(sector, number);
    const actual = bytes.subarray(sector * SECTOR, (sector + 1) * SECTOR);
    assert.deepEqual(actual, expected, `sector ${sector} is torn or foreign`);
  }
  return found;
}

/** What each sector must at least have seen when operation `flushed` was flushed, and whether it may be zero. */
function expectation(seed: number, sectors: number, from: Uint32Array, start: number, flushed: number) {
  const least = from.slice();
  const mayBeZero = new Uint8Array(sectors);
  for (let i = 0; i < sectors; i++) mayBeZero[i] = from[i] === 0 ? 1 : 0;
  let number = 0;
  for (const operation of operations(seed, sectors)) {
    number++;
    // Beyond the last flush anything may or may not have happened: only zeroes have to be allowed for.
    if (number > flushed + 5000) break;
    if (number < start || operation.kind === "flush") continue;
    const end = operation.first + operation.sectors;
    if (operation.kind === "clear") {
      mayBeZero.fill(1, operation.first, end);
      if (number <= flushed) least.fill(0, operation.first, end);
    } else if (number <= flushed) {
      least.fill(number, operation.first, end);
      mayBeZero.fill(0, operation.first, end);
    }
  }
  return { least, mayBeZero };
}

async function crash(type: ImageType, format: string, diskBytes: number, makeImage: (path: string) => void) {
  await withDirectory(async (directory) => {
    const path = `${directory}/disk.img`;
    const raw = `${directory}/disk.raw`;
    makeImage(path);
    const next = random(diskBytes + format.length);
    let start = 1;
    let shown: Uint32Array = new Uint32Array(diskBytes / SECTOR);
    for (let round = 0; round < ROUNDS; round++) {
      const seed = 77;
      const flushed = await writeAndKill(path, type, seed, start, 20 + next(150));
      if (format !== "raw") checkImage(path, true);
      qemuImg("convert", "-U", "-f", format, "-O", "raw", path, raw);
      const found = sealsIn(Deno.readFileSync(raw));
      const { least, mayBeZero } = expectation(seed, found.length, shown, start, flushed);
      for (let sector = 0; sector < found.length; sector++) {
        const isLate = found[sector] >= least[sector];
        assert.ok(
          isLate || (found[sector] === 0 && mayBeZero[sector] === 1),
          `sector ${sector} shows ${found[sector]}, operation ${least[sector]} was flushed with ${flushed}`,
        );
      }
      // Opening the image for writing repairs its counts: nothing leaks any more.
      const opened = openDisk(diskRequest(path, { image_type: type, backing_files: true }));
      attachDisk(opened.description).close();
      opened.close();
      if (format !== "raw") checkImage(path);
      shown = found;
      start = Math.max(...found, flushed) + 1;
    }
  });
}

const qcow2 = (...options: string[]) => (path: string) =>
  qemuImg("create", "-q", "-f", "qcow2", "-o", options.join(","), path, "32M");

Deno.test(
  { name: "qcow2 survives kill -9", ignore: !hasQemuImg },
  () => crash("Qcow2", "qcow2", 32 * MIB, qcow2("compat=1.1")),
);

Deno.test(
  { name: "qcow2 with 4 KiB clusters survives kill -9", ignore: !hasQemuImg },
  () => crash("Qcow2", "qcow2", 32 * MIB, qcow2("cluster_size=4k,refcount_bits=8")),
);

Deno.test(
  { name: "qcow2 over another image survives kill -9", ignore: !hasQemuImg },
  () =>
    crash("Qcow2", "qcow2", 32 * MIB, (path) => {
      const below = `${path}.below`;
      qemuImg("create", "-q", "-f", "qcow2", below, "32M");
      qemuImg("create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", path);
    }),
);

Deno.test(
  { name: "a dirty qcow2 with wrong counts is repaired when it is opened", ignore: !hasQemuImg },
  async () => {
    await withDirectory((directory) => {
      const path = `${directory}/disk.qcow2`;
      const raw = `${directory}/disk.raw`;
      const contents = pattern(3 * MIB, 1);
      Deno.writeFileSync(raw, contents);
      qemuImg("convert", "-c", "-f", "raw", "-O", "qcow2", raw, path);
      const bytes = Deno.readFileSync(path);
      const view = new DataView(bytes.buffer);
      const table = Number(view.getBigUint64(48));
      const block = Number(view.getBigUint64(table));
      bytes.fill(0, block + 8, block + 40); // counts that are too low, as lazy counting leaves them
      view.setUint16(block + 100, 3);
      view.setUint32(76, 1); // dirty
      Deno.writeFileSync(path, bytes);
      assert.throws(() => checkImage(path));
      const opened = openDisk(diskRequest(path, { image_type: "Qcow2" }));
      attachDisk(opened.description).close();
      opened.close();
      checkImage(path);
      assert.equal(new DataView(Deno.readFileSync(path).buffer).getUint32(76), 0, "the image is clean again");
      qemuImg("compare", "-f", "raw", "-F", "qcow2", raw, path);
    });
  },
);

import assert from "node:assert/strict";
import { join } from "node:path";
import { close, fileStatus } from "@ffi/libc/fd.ts";
import { wrap } from "@ffi/libc/mmap.ts";
import { mapPmemFile, openPmemFile, type PmemFileOptions, unmapPmemFile } from "./open.ts";

const MIB = 1 << 20;

function inDirectory(use: (directory: string) => void): void {
  const directory = Deno.makeTempDirSync({ prefix: "nephos-pmem-" });
  try {
    use(directory);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

function sparseFile(directory: string, sizeBytes: number): string {
  const path = join(directory, "file");
  Deno.writeFileSync(path, new Uint8Array(0));
  Deno.truncateSync(path, sizeBytes);
  return path;
}

/** The message of the error that opening gives, and that of its cause. */
function refusal(options: PmemFileOptions): string[] {
  try {
    close(openPmemFile(options).fd);
  } catch (error) {
    const { message, cause } = error as Error;
    return [message, ...(cause instanceof Error ? [cause.message] : [])];
  }
  return [];
}

Deno.test("openPmemFile() uses all of a file, or the size given", () => {
  inDirectory((directory) => {
    const file = sparseFile(directory, 4 * MIB);
    for (
      const [size, sizeBytes] of [[undefined, 4 * MIB], [BigInt(2 * MIB), 2 * MIB], [
        BigInt(8 * MIB),
        8 * MIB,
      ]] as const
    ) {
      const opened = openPmemFile({ file, size, discardWrites: false });
      assert.equal(opened.sizeBytes, sizeBytes);
      assert.equal(fileStatus(opened.fd).sizeBytes, BigInt(4 * MIB));
      close(opened.fd);
    }
  });
});

Deno.test("openPmemFile() makes an unnamed file in a directory", () => {
  inDirectory((directory) => {
    const opened = openPmemFile({ file: directory, size: BigInt(2 * MIB), discardWrites: false });
    assert.equal(fileStatus(opened.fd).sizeBytes, BigInt(2 * MIB));
    assert.deepEqual([...Deno.readDirSync(directory)], []);
    close(opened.fd);
  });
});

Deno.test("openPmemFile() refuses with the original's words", () => {
  inDirectory((directory) => {
    const file = sparseFile(directory, 3 * MIB);
    const misaligned = ["Trying to use a size that is not multiple of 2MiB"];
    assert.deepEqual(refusal({ file, discardWrites: false }), misaligned);
    assert.deepEqual(refusal({ file: directory, size: 1n, discardWrites: false }), misaligned);
    assert.deepEqual(refusal({ file: directory, discardWrites: false }), [
      "Trying to use a directory for pmem but no size specified",
    ]);
    assert.deepEqual(refusal({ file: join(directory, "none"), discardWrites: true }), [
      "Cannot open persistent memory file",
      "No such file or directory (os error 2)",
    ]);
    assert.deepEqual(refusal({ file: directory, size: BigInt(2 * MIB), discardWrites: true }), [
      "Cannot open persistent memory file",
      "Invalid argument (os error 22)",
    ]);
    assert.deepEqual(refusal({ file: directory, size: 1n << 63n, discardWrites: false }), [
      "Cannot set persistent memory file size",
      "Invalid argument (os error 22)",
    ]);
  });
});

Deno.test("mapPmemFile() shares writes with the file, or discards them", () => {
  inDirectory((directory) => {
    const path = sparseFile(directory, 2 * MIB);
    for (const [discardWrites, expected] of [[true, 0], [false, 0x5a]] as const) {
      const file = openPmemFile({ file: path, discardWrites });
      const address = mapPmemFile(file, discardWrites);
      new Uint8Array(wrap(address, 4096))[7] = 0x5a;
      assert.equal(Deno.readFileSync(path)[7], expected);
      unmapPmemFile(file, address);
      close(file.fd);
    }
  });
});

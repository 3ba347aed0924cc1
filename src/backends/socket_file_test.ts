import assert from "node:assert/strict";
import { Errno, type OsError } from "@ffi/abi/errno.ts";
import { close } from "@ffi/libc/fd.ts";
import { accept, connectUnix } from "@ffi/libc/socket.ts";
import { openSocketFile, removeSocketFile } from "./socket_file.ts";

function inDirectory(body: (directory: string) => void): void {
  const directory = Deno.makeTempDirSync();
  try {
    body(directory);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

const isInUse = (error: OsError) => error.code === Errno.EADDRINUSE;

Deno.test("openSocketFile() takes a file over that nobody listens on, and no other", () =>
  inDirectory((directory) => {
    const path = `${directory}/s`;
    const first = openSocketFile(path);
    assert.throws(() => openSocketFile(path), isInUse);
    close(first.fd); // as a killed process does
    const second = openSocketFile(path);
    close(connectUnix(path));
    assert.ok(accept(second.fd) >= 0);
    close(second.fd);
    Deno.mkdirSync(`${directory}/folder`);
    Deno.writeTextFileSync(`${directory}/file`, "mine");
    for (const name of ["folder", "file"]) {
      assert.throws(() => openSocketFile(`${directory}/${name}`), isInUse);
      assert.ok(Deno.lstatSync(`${directory}/${name}`));
    }
  }));

Deno.test("removeSocketFile() removes its own file only", () =>
  inDirectory((directory) => {
    const path = `${directory}/s`;
    const ours = openSocketFile(path);
    close(ours.fd);
    const theirs = openSocketFile(path);
    // the file system may give the same inode again: then it cannot be told apart, and nobody listens on ours
    if (theirs.inode !== ours.inode) {
      removeSocketFile(ours);
      assert.ok(Deno.lstatSync(path));
    }
    removeSocketFile(theirs);
    assert.throws(() => Deno.lstatSync(path), Deno.errors.NotFound);
    removeSocketFile(theirs);
    close(theirs.fd);
  }));

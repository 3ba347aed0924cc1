import assert from "node:assert/strict";
import { close } from "@ffi/libc/fd.ts";
import { addressOf } from "@ffi/libc/syscall.ts";
import { attachRngSource, openRngSource } from "./rng_source.ts";

const EAGAIN = 11;

function iovecOf(buffer: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const iov = new BigUint64Array([addressOf(buffer), BigInt(buffer.byteLength)]);
  return new Uint8Array(iov.buffer);
}

Deno.test("a source on /dev/urandom can be polled and fills its buffer", () => {
  const opened = openRngSource("/dev/urandom");
  const source = attachRngSource(opened);
  const buffer = new Uint8Array(64);
  assert.equal(source.pollFd, opened.fd);
  assert.equal(source.read(iovecOf(buffer), 1), 64);
  assert.ok(buffer.some((byte) => byte !== 0));
  close(opened.fd);
});

Deno.test("a source on a file ends with it and is not polled; one on an empty pipe says EAGAIN", async () => {
  const directory = await Deno.makeTempDir();
  try {
    await Deno.writeFile(`${directory}/seed`, Uint8Array.of(1, 2, 3));
    const file = openRngSource(`${directory}/seed`);
    const source = attachRngSource(file);
    const buffer = new Uint8Array(8);
    assert.equal(source.pollFd, -1);
    assert.deepEqual([source.read(iovecOf(buffer), 1), buffer[2]], [3, 3]);
    assert.equal(source.read(iovecOf(buffer), 1), 0);
    close(file.fd);
    await new Deno.Command("mkfifo", { args: [`${directory}/pipe`] }).output();
    const pipe = openRngSource(`${directory}/pipe`);
    const keeper = await Deno.open(`${directory}/pipe`, { write: true });
    assert.equal(attachRngSource(pipe).pollFd, pipe.fd);
    assert.equal(attachRngSource(pipe).read(iovecOf(buffer), 1), -EAGAIN);
    keeper.close();
    close(pipe.fd);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

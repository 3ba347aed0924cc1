import assert from "node:assert/strict";
import { Errno } from "@ffi/abi/errno.ts";
import { close } from "@ffi/libc/fd.ts";
import { read, write } from "@ffi/libc/io.ts";
import { accept, connectUnix, listenUnix, MSG, receiveBytes } from "@ffi/libc/socket.ts";
import type { HostStream, StreamHost } from "@vmm/virtio/ports/streams.ts";
import { attachStreamHost } from "./stream_host.ts";

const PORT = 4_000_000_000;
const bytesOf = (text: string) => new TextEncoder().encode(text);
const textOf = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

function withHost(body: (host: StreamHost, path: string) => void): void {
  const directory = Deno.makeTempDirSync();
  const path = `${directory}/v`;
  const listenFd = listenUnix(path);
  try {
    body(attachStreamHost({ listenFd, path }), path);
  } finally {
    close(listenFd);
    Deno.removeSync(directory, { recursive: true });
  }
}

/** iovec entries for parts of one buffer. */
function iovecOf(...parts: Uint8Array<ArrayBuffer>[]): Uint8Array<ArrayBuffer> {
  const words = new BigUint64Array(2 * parts.length);
  parts.forEach((part, i) => {
    // SAFETY: the address is used while the caller holds the buffers.
    words[2 * i] = Deno.UnsafePointer.value(Deno.UnsafePointer.of(part));
    words[2 * i + 1] = BigInt(part.byteLength);
  });
  return new Uint8Array(words.buffer);
}

Deno.test("a stream host accepts programs and connects to the services beside its socket", () =>
  withHost((host, path) => {
    assert.equal(host.accept(), -Errno.EAGAIN);
    const program = connectUnix(path);
    const accepted = host.accept() as HostStream;
    assert.equal(typeof accepted, "object");

    assert.equal(host.connect(PORT), -Errno.ENOENT);
    const service = listenUnix(`${path}_${PORT}`, 1);
    const stream = host.connect(PORT) as HostStream;
    const peer = accept(service);
    const text = new Uint8Array(8);
    assert.equal(stream.send(iovecOf(bytesOf("ab"), bytesOf("cd")), 2), 4);
    assert.equal(read(peer, text), 4);
    assert.equal(textOf(text.subarray(0, 4)), "abcd");
    write(peer, bytesOf("efgh"));
    const [left, right] = [new Uint8Array(3), new Uint8Array(3)];
    assert.equal(stream.receive(iovecOf(left, right), 2), 4);
    assert.equal(textOf(left) + textOf(right.subarray(0, 1)), "efgh");
    assert.equal(stream.receive(iovecOf(left), 1), -Errno.EAGAIN);
    close(service);
    assert.equal(host.connect(PORT), -Errno.ECONNREFUSED);
    accepted.close();
    stream.close();
    [program, peer].forEach(close);
  }));

Deno.test("a stream host says when a service is busy", () =>
  withHost((host, path) => {
    const service = listenUnix(`${path}_1`, 0);
    const first = host.connect(1) as HostStream;
    assert.equal(host.connect(1), -Errno.EAGAIN);
    close(accept(service));
    const second = host.connect(1) as HostStream;
    first.close();
    second.close();
    close(service);
  }));

Deno.test("streams can be looked at, ended on one side, and outlive their peer", () =>
  withHost((host, path) => {
    const program = connectUnix(path);
    const stream = host.accept() as HostStream;
    write(program, bytesOf("line\nrest"));
    const seen = new Uint8Array(32);
    assert.equal(stream.receiveBytes(seen, true), 9);
    assert.equal(stream.receiveBytes(seen.subarray(0, 5), false), 5);
    assert.equal(stream.receiveBytes(seen, true), 4);
    stream.endSending();
    assert.equal(receiveBytes(program, seen, MSG.PEEK), 0);
    assert.equal(write(program, bytesOf("more")), 4);
    assert.equal(stream.receiveBytes(seen, false), 8);
    assert.equal(stream.sendBytes(bytesOf("x")), -Errno.EPIPE);
    close(program);
    assert.equal(stream.receiveBytes(seen, false), 0);
    stream.close();
  }));

Deno.test("a service whose path is too long, or no socket, cannot be reached", () => {
  const directory = Deno.makeTempDirSync();
  const host = (path: string) => attachStreamHost({ listenFd: -1, path });
  assert.equal(host(`${directory}/${"x".repeat(104 - directory.length)}`).connect(1000), -Errno.ENAMETOOLONG);
  Deno.writeTextFileSync(`${directory}/v_1`, "");
  assert.equal(host(`${directory}/v`).connect(1), -Errno.ECONNREFUSED);
  Deno.removeSync(directory, { recursive: true });
});

import assert from "node:assert/strict";
import { Errno, OsError } from "../abi/errno.ts";
import { close, memfd } from "./fd.ts";
import { read, write } from "./io.ts";
import {
  accept,
  connectUnix,
  isListening,
  listenUnix,
  localName,
  peerName,
  shutdownSocket,
  SocketMessage,
  socketPair,
} from "./socket.ts";

const text = (value: string) => new TextEncoder().encode(value);

Deno.test("SocketMessage carries bytes and descriptors", () => {
  const [left, right] = socketPair();
  const files = [memfd("one"), memfd("two")];
  write(files[1], text("content"));
  const message = new SocketMessage(64);
  assert.equal(message.send(left, text("hello"), files), 5);
  assert.equal(message.receive(right), 5);
  assert.equal(new TextDecoder().decode(message.data.subarray(0, 5)), "hello");
  assert.equal(message.descriptors.length, 2);
  assert.equal(message.descriptorsLost, false);
  assert.ok(message.descriptors.every((fd) => !files.includes(fd)));
  assert.equal(Deno.readTextFileSync(`/proc/self/fd/${message.descriptors[1]}`), "content");
  assert.equal(message.receive(right), -Errno.EAGAIN);
  assert.equal(message.descriptors.length, 0);
  [left, right, ...files].forEach(close);
});

Deno.test("SocketMessage tells when descriptors did not fit", () => {
  const [left, right] = socketPair();
  const file = memfd("one");
  new SocketMessage(8).send(left, text("x"), [file, file, file, file]);
  const small = new SocketMessage(8, 1);
  assert.equal(small.receive(right), 1);
  assert.equal(small.descriptorsLost, true);
  small.descriptors.forEach(close);
  assert.equal(small.send(left, text("x"), [file, file, file, file]), -Errno.EINVAL);
  [left, right, file].forEach(close);
});

Deno.test("listenUnix(), connectUnix() and accept() meet at a path", () => {
  const directory = Deno.makeTempDirSync();
  const path = `${directory}/s`;
  const listener = listenUnix(path);
  assert.equal(accept(listener), -Errno.EAGAIN);
  const client = connectUnix(path);
  assert.deepEqual([listener, client, -1].map(isListening), [true, false, false]);
  const server = accept(listener);
  assert.ok(server >= 0);
  write(client, text("hi"));
  const bytes = new Uint8Array(8);
  assert.equal(read(server, bytes), 2);
  shutdownSocket(server);
  assert.equal(read(client, bytes), 0);
  assert.throws(() => listenUnix(path), (e: OsError) => e.code === Errno.EADDRINUSE);
  [listener, client, server].forEach(close);
  assert.throws(() => connectUnix(path), (e: OsError) => e.code === Errno.ECONNREFUSED);
  Deno.removeSync(directory, { recursive: true });
});

Deno.test("listenUnix() refuses a path that does not fit the address", () => {
  assert.throws(() => listenUnix("/" + "x".repeat(107)), OsError);
});

Deno.test("connectUnix() under a name is known to the other end", () => {
  const directory = Deno.makeTempDirSync();
  const path = `${directory}/s`;
  const listener = listenUnix(path);
  const named = connectUnix(path, true);
  const nameless = connectUnix(path);
  const [first, second] = [accept(listener), accept(listener)];
  assert.equal(localName(listener), path);
  assert.match(localName(named), /^\0[0-9a-f]{5}$/);
  assert.equal(peerName(first), localName(named));
  assert.equal(localName(nameless), "");
  assert.equal(peerName(second), "");
  assert.equal(peerName(named), path);
  [listener, named, nameless, first, second].forEach(close);
  assert.equal(peerName(named), "");
  Deno.removeSync(directory, { recursive: true });
});

/**
 * The drop-in front door, byte for byte: against recorded answers of the original, in this process and on the program.
 */
import assert from "node:assert/strict";
import { close } from "@ffi/libc/fd.ts";
import { connectUnix, listenUnix, SocketMessage } from "@ffi/libc/socket.ts";
import { Http1Server } from "@vmm/api/http1/server.ts";
import { testWith } from "@tests/framework/programs.ts";
import { Vm } from "@tests/framework/vm.ts";
import { InProcessTarget } from "./api_target.ts";
import { DIALECT_CASES } from "./dialect_cases.ts";
import { converse, latin1, readGoldenDialect } from "./golden_dialect.ts";
import { scaled } from "@tests/framework/deadline.ts";

const golden = readGoldenDialect();

/** A drop-in front door in this process. */
class InProcessDoor implements AsyncDisposable {
  readonly directory = Deno.makeTempDirSync();
  readonly path = `${this.directory}/api.sock`;
  readonly target = new InProcessTarget();
  /** Why something was turned away, in order. */
  readonly refused: string[] = [];
  readonly #server = new Http1Server(
    listenUnix(this.path),
    this.target.router,
    (reason) => this.refused.push(reason),
  );
  readonly #running = this.#server.run();

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.close();
    await this.#running;
    await this.target[Symbol.asyncDispose]();
    await Deno.remove(this.directory, { recursive: true });
  }
}

async function checkAll(socketPath: string): Promise<void> {
  for (const [name, parts] of Object.entries(DIALECT_CASES)) {
    assert.deepEqual(await converse(socketPath, parts, golden[name]), golden[name], name);
  }
}

/** Reads what has come, waiting until `done` says so or the stream ends. */
async function readUntil(fd: number, done: (text: string) => boolean): Promise<string> {
  const message = new SocketMessage(1 << 16);
  let text = "";
  for (const end = performance.now() + scaled(120_000); performance.now() < end;) {
    const count = message.receive(fd);
    if (count === 0) return `${text}<end>`;
    if (count > 0) text += new TextDecoder("latin1").decode(message.data.subarray(0, count));
    else await new Promise((resolve) => setTimeout(resolve, 1));
    if (done(text)) return text;
  }
  throw new Error(`Only this came: ${JSON.stringify(text)}`);
}

const send = (fd: number, text: string) => new SocketMessage(16).send(fd, latin1(text));
const PING = "GET /api/v1/vmm.ping HTTP/1.1\r\n\r\n";

Deno.test("drop-in dialect: every case byte for byte, in process", async () => {
  await using door = new InProcessDoor();
  await checkAll(door.path);
});

testWith({ binary: true }, "drop-in dialect: every case byte for byte, cloud-hypervisor", async () => {
  await using vm = await Vm.start({ program: "cloud-hypervisor" });
  await checkAll(vm.api.socketPath);
});

Deno.test("drop-in dialect: bodies split over many reads, up to the largest", async () => {
  await using door = new InProcessDoor();
  const fd = connectUnix(door.path);
  const body = `{"destination_url":"${"x".repeat((4 << 20) - 22)}"}`;
  assert.equal(body.length, 4 << 20);
  const text = `PUT /api/v1/vm.snapshot HTTP/1.1\r\nContent-Length: ${body.length}\r\n\r\n${body}${PING}`;
  const bytes = latin1(text);
  const message = new SocketMessage(16);
  for (let sent = 0; sent < bytes.length;) {
    const count = message.send(fd, bytes.subarray(sent, sent + 9_999));
    if (count > 0) sent += count;
    else await new Promise((resolve) => setTimeout(resolve, 1));
  }
  const answer = await readUntil(fd, (received) => received.includes('"version"'));
  assert.match(answer, /^HTTP\/1\.1 500 .*VM is not running"\]HTTP\/1\.1 200 /s);
  close(fd);
});

Deno.test("drop-in dialect: a request byte by byte", async () => {
  await using door = new InProcessDoor();
  const fd = connectUnix(door.path);
  for (const character of PING) {
    send(fd, character);
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  assert.match(await readUntil(fd, (text) => text.includes('"version"')), /^HTTP\/1\.1 200 \r\n/);
  close(fd);
});

Deno.test("drop-in dialect: the eleventh connection is told so and closed, the tenth and a later one work", async () => {
  await using door = new InProcessDoor();
  const open: number[] = [];
  for (let i = 0; i < 10; i++) {
    const fd = connectUnix(door.path);
    open.push(fd);
    send(fd, PING);
    assert.match(await readUntil(fd, (text) => text.includes('"version"')), /^HTTP\/1\.1 200 /);
  }
  const refused = connectUnix(door.path);
  assert.equal(
    await readUntil(refused, () => false),
    "HTTP/1.1 503\r\nServer: Firecracker API\r\nConnection: close\r\nContent-Length: 40\r\n\r\n" +
      '{ "error": "Too many open connections" }<end>',
  );
  assert.deepEqual(door.refused, ["too_many_connections"]);
  close(refused);
  close(open.shift()!);
  // The end of the first connection and the next one arrive in either order.
  for (let tries = 0;; tries++) {
    const fd = connectUnix(door.path);
    send(fd, PING);
    const answer = await readUntil(fd, (text) => text.includes("version") || text.includes("503"));
    close(fd);
    if (answer.startsWith("HTTP/1.1 200")) break;
    assert.ok(tries < 100);
  }
  for (const fd of open) close(fd);
});

Deno.test("drop-in dialect: after a fault in the headers the connection ends", async () => {
  await using door = new InProcessDoor();
  const fd = connectUnix(door.path);
  send(fd, `GET / HTTP/1.1\r\nno colon\r\n\r\n`);
  assert.match(await readUntil(fd, () => false), /^HTTP\/1\.1 400 [^]*Key: no colon[^]*<end>$/);
  assert.deepEqual(door.refused, ["malformed"]);
  close(fd);
});

Deno.test("drop-in dialect: a line without end is refused at 1024 bytes", async () => {
  await using door = new InProcessDoor();
  for (const text of ["G".repeat(1_024), `GET / HTTP/1.1\r\n${"a".repeat(1_024)}`]) {
    const fd = connectUnix(door.path);
    send(fd, text);
    assert.match(await readUntil(fd, () => false), /^HTTP\/1\.1 400 [^]*<end>$/);
    close(fd);
  }
});

Deno.test("drop-in dialect: what is too long is counted as that, whatever was before it", async () => {
  await using door = new InProcessDoor();
  const refusals = {
    "G / HTTP/1.1\r\n\r\n": "malformed",
    [`PUT / HTTP/1.1\r\nContent-Length: ${(4 << 20) + 1}\r\n\r\n`]: "too_long",
    "PUT / HTTP/1.1\r\nContent-Length: x\r\n\r\n": "malformed",
    [`GET /${"a".repeat(1_024)}`]: "too_long",
  };
  for (const text of Object.keys(refusals)) {
    const fd = connectUnix(door.path);
    send(fd, text);
    assert.match(await readUntil(fd, (received) => received.includes("error")), /^HTTP\/1\.1 400 /);
    close(fd);
  }
  assert.deepEqual(door.refused, Object.values(refusals));
});

Deno.test("drop-in dialect: requests before a half-close are answered", async () => {
  await using door = new InProcessDoor();
  using connection = await Deno.connect({ transport: "unix", path: door.path });
  await connection.write(latin1(PING + PING));
  await connection.closeWrite();
  let text = "";
  for await (const part of connection.readable) text += new TextDecoder().decode(part);
  assert.equal(text.match(/HTTP\/1\.1 200/g)?.length, 2);
});

Deno.test("drop-in dialect: a client that reads nothing does not stop the others", async () => {
  await using door = new InProcessDoor();
  const deaf = connectUnix(door.path);
  const many = latin1(PING.repeat(1_000));
  const message = new SocketMessage(16);
  for (let tries = 0; tries < 200; tries++) {
    if (message.send(deaf, many) < 0) await new Promise((resolve) => setTimeout(resolve, 0));
  }
  const fd = connectUnix(door.path);
  send(fd, PING);
  assert.match(await readUntil(fd, (text) => text.includes('"version"')), /^HTTP\/1\.1 200 /);
  close(fd);
  close(deaf);
});

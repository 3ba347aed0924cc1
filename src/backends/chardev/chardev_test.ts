import assert from "node:assert/strict";
import { Errno } from "@ffi/abi/errno.ts";
import { Epoll } from "@ffi/libc/epoll.ts";
import { close, O, open } from "@ffi/libc/fd.ts";
import { read, write } from "@ffi/libc/io.ts";
import { setWindowSize } from "@ffi/libc/pty.ts";
import { connectUnix, listenUnix } from "@ffi/libc/socket.ts";
import { ConfigError } from "@vmm/errors/config_error.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import { HostError } from "@vmm/errors/host_error.ts";
import { ByteOutput } from "./byte_output.ts";
import { ChardevBlock, NO_WRITER } from "./chardev_block.ts";
import { openCharDevice } from "./open_char_device.ts";
import { type ChardevDescriptor, closeChardev, openChardev, openStandardOutput } from "./open_chardev.ts";

/** epoll for real, time by hand. */
class Environment {
  #epoll = new Epoll();
  #watches = new Map<number, { events: number; ready: (events: number) => void }>();
  timers: { delayMs: number; fire: () => void }[] = [];
  callbacks = 0;

  watch(fd: number, events: number, ready: (events: number) => void): void {
    this.#watches.set(fd, { events: 0, ready });
    this.rewatch(fd, events);
  }

  rewatch(fd: number, events: number): void {
    const watch = this.#watches.get(fd)!;
    if (events === watch.events) return;
    if (events === 0) this.#epoll.remove(fd);
    else if (watch.events === 0) this.#epoll.add(fd, events, fd);
    else this.#epoll.modify(fd, events, fd);
    watch.events = events;
  }

  unwatch(fd: number): void {
    this.#epoll.remove(fd);
    this.#watches.delete(fd);
  }

  timer(delayMs: number, fire: () => void): () => void {
    const timer = { delayMs, fire };
    this.timers.push(timer);
    return () => {
      this.timers = this.timers.filter((other) => other !== timer);
    };
  }

  /** Serves what is ready, at most `rounds` times. */
  serve(rounds = 50): void {
    for (let i = 0; i < rounds; i++) {
      const count = this.#epoll.wait(0);
      if (count === 0) return;
      for (let j = 0; j < count; j++) {
        this.callbacks++;
        this.#watches.get(this.#epoll.token(j))?.ready(this.#epoll.events(j));
      }
    }
  }

  /** Lets every timer fire once. */
  elapse(): void {
    const due = this.timers;
    this.timers = [];
    for (const timer of due) timer.fire();
  }

  close(): void {
    this.#epoll.close();
  }
}

/** A guest that takes `capacity` bytes at a time. */
class Guest {
  received: number[] = [];
  #taken = 0;
  constructor(public capacity = Infinity) {}
  room(): number {
    return Math.max(0, this.capacity - this.#taken);
  }
  push(bytes: Uint8Array, length: number): void {
    assert.ok(length <= this.room());
    this.#taken += length;
    for (let i = 0; i < length; i++) this.received.push(bytes[i]);
  }
  /** The guest read everything. */
  consume(): void {
    this.#taken = 0;
  }
  get text(): string {
    return new TextDecoder().decode(Uint8Array.from(this.received));
  }
}

const bytes = (value: string) => new TextEncoder().encode(value);

function readText(fd: number): string {
  const chunk = new Uint8Array(4096);
  const count = read(fd, chunk);
  return count < 0 ? `error ${-count}` : new TextDecoder().decode(chunk.subarray(0, count));
}

/** Reads until `length` characters came: a terminal hands them over when it gets round to it. */
function readAll(fd: number, length: number): string {
  const end = performance.now() + 600_000;
  let text = "";
  while (text.length < length && performance.now() < end) {
    const more = readText(fd);
    if (more === `error ${Errno.EAGAIN}`) Atomics.wait(NOBODY, 0, 0, 1);
    else text += more;
  }
  return text;
}

const NOBODY = new Int32Array(new SharedArrayBuffer(4));

function vcpuOutput(descriptor: ChardevDescriptor, wake = () => {}): ByteOutput {
  return new ByteOutput(ChardevBlock.attach(descriptor.block), { wake }, descriptor.blocking);
}

function print(output: ByteOutput, text: string): void {
  for (const byte of bytes(text)) output.put(byte);
}

function inDirectory(test: (directory: string) => void): void {
  const directory = Deno.makeTempDirSync();
  try {
    test(directory);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

Deno.test("mode Off has no back-end and mode Null swallows everything", () => {
  assert.equal(openChardev("serial", { mode: "Off" }), undefined);
  const descriptor = openChardev("serial", { mode: "Null" })!;
  const env = new Environment();
  const device = openCharDevice(descriptor, env);
  print(vcpuOutput(descriptor), "nothing");
  device.write(bytes("nothing"), 7);
  assert.equal(ChardevBlock.attach(descriptor.block).count, 0);
  device.stop();
  closeChardev(descriptor);
  env.close();
});

Deno.test("mode File truncates the file and writes from any isolate", () =>
  inDirectory((directory) => {
    const file = `${directory}/log`;
    Deno.writeTextFileSync(file, "old content");
    const descriptor = openChardev("serial", { mode: "File", file })!;
    const env = new Environment();
    const device = openCharDevice(descriptor, env);
    print(vcpuOutput(descriptor), "from a vCPU, ");
    device.write(bytes("from the I/O Worker"), 19);
    assert.equal(Deno.readTextFileSync(file), "from a vCPU, from the I/O Worker");
    device.stop();
    closeChardev(descriptor);
    env.close();
  }));

Deno.test("openChardev() explains what is wrong", () =>
  inDirectory((directory) => {
    assert.throws(
      () => openChardev("console", { mode: "File" }),
      (e: ConfigError) => e instanceof ConfigError && e.fieldPath === "console.file",
    );
    assert.throws(
      () => openChardev("serial", { mode: "Socket", socket: null }),
      (e: ConfigError) => e instanceof ConfigError && e.fieldPath === "serial.socket",
    );
    assert.throws(
      () => openChardev("serial", { mode: "File", file: `${directory}/no/file` }),
      (e: HostError) => {
        assert.deepEqual(e.chain(), [
          "Error creating console devices",
          "Error creating console device",
          "No such file or directory (os error 2)",
        ]);
        return true;
      },
    );
    for (const [name, socket] of [["console", `${directory}/s`], ["console"], ["debug_console"]] as const) {
      assert.throws(
        () => openChardev(name, { mode: "Socket", socket }),
        (e: ContextError) => e.chain()[1] === "No socket option support for console device",
      );
    }
  }));

Deno.test("mode Pty replays what was printed before somebody opened it", () => {
  const descriptor = openChardev("console", { mode: "Pty" })!;
  const env = new Environment();
  const output = vcpuOutput(descriptor);
  const device = openCharDevice(descriptor, env);
  const guest = new Guest();
  device.setInput(guest);
  print(output, "early ");
  const slave = open(descriptor.path!, O.RDWR | O.NOCTTY | O.NONBLOCK);
  assert.equal(readText(slave), `error ${Errno.EAGAIN}`);
  assert.equal(env.timers[0].delayMs, 500);
  env.elapse();
  print(output, "late");
  assert.equal(readAll(slave, 10), "early late");
  write(slave, bytes("typed"));
  env.serve();
  for (let i = 0; i < 5000 && guest.text !== "typed"; i++) {
    Atomics.wait(NOBODY, 0, 0, 1);
    env.serve();
  }
  assert.equal(guest.text, "typed");
  device.stop();
  close(slave);
  closeChardev(descriptor);
  env.close();
});

Deno.test("mode Pty keeps output over a hang-up and rests while nobody is there", () => {
  const descriptor = openChardev("serial", { mode: "Pty" })!;
  const env = new Environment();
  const device = openCharDevice(descriptor, env);
  const guest = new Guest();
  device.setInput(guest);
  const output = vcpuOutput(descriptor, () => device.woken());
  let slave = open(descriptor.path!, O.RDWR | O.NOCTTY | O.NONBLOCK);
  env.elapse();
  write(slave, bytes("last words"));
  close(slave);
  env.serve();
  assert.equal(guest.text, "last words");
  const callbacks = env.callbacks;
  for (let i = 0; i < 10; i++) {
    env.serve();
    env.elapse();
  }
  assert.equal(env.callbacks, callbacks);
  print(output, "kept");
  slave = open(descriptor.path!, O.RDWR | O.NOCTTY | O.NONBLOCK);
  env.elapse();
  assert.equal(readAll(slave, 4), "kept");
  device.stop();
  close(slave);
  closeChardev(descriptor);
  env.close();
});

Deno.test("mode Pty survives a hang-up that a vCPU meets first", () => {
  const descriptor = openChardev("serial", { mode: "Pty" })!;
  const env = new Environment();
  const device = openCharDevice(descriptor, env);
  const output = vcpuOutput(descriptor, () => device.woken());
  close(open(descriptor.path!, O.RDWR | O.NOCTTY));
  let slave = open(descriptor.path!, O.RDWR | O.NOCTTY | O.NONBLOCK);
  env.elapse();
  close(slave);
  print(output, "a");
  slave = open(descriptor.path!, O.RDWR | O.NOCTTY | O.NONBLOCK);
  print(output, "b");
  env.serve();
  env.elapse();
  assert.equal(readAll(slave, 2), "ab");
  device.stop();
  close(slave);
  closeChardev(descriptor);
  env.close();
});

Deno.test("mode Pty tells a console when the size changed", () => {
  const descriptor = openChardev("console", { mode: "Pty" })!;
  const env = new Environment();
  const device = openCharDevice(descriptor, env);
  const slave = open(descriptor.path!, O.RDWR | O.NOCTTY);
  env.elapse();
  let changes = 0;
  device.onResize(() => void changes++);
  env.elapse();
  assert.equal(changes, 0);
  setWindowSize(slave, 120, 40);
  env.elapse();
  assert.equal(changes, 1);
  assert.deepEqual(device.windowSize(), { columns: 120, rows: 40 });
  env.elapse();
  assert.equal(changes, 1);
  device.stop();
  assert.equal(env.timers.length, 0);
  close(slave);
  closeChardev(descriptor);
  env.close();
});

Deno.test("a guest that is slow holds input back without losing any of it", () => {
  const descriptor = openChardev("serial", { mode: "Pty" })!;
  const env = new Environment();
  const device = openCharDevice(descriptor, env);
  const guest = new Guest(1000);
  device.setInput(guest);
  const slave = open(descriptor.path!, O.RDWR | O.NOCTTY | O.NONBLOCK);
  env.elapse();
  const paste = Uint8Array.from({ length: 30_000 }, (_, i) => i % 251);
  let sent = 0;
  while (guest.received.length < paste.length) {
    if (sent < paste.length) sent += Math.max(0, write(slave, paste.slice(sent)));
    env.serve();
    const callbacks = env.callbacks;
    env.serve();
    assert.equal(env.callbacks, callbacks);
    guest.consume();
    device.resumeInput();
  }
  assert.deepEqual(guest.received, [...paste]);
  device.stop();
  close(slave);
  closeChardev(descriptor);
  env.close();
});

Deno.test("mode Socket replays to a client, takes its input, and lets a new client replace it", () =>
  inDirectory((directory) => {
    const socket = `${directory}/s`;
    const descriptor = openChardev("serial", { mode: "Socket", socket })!;
    const env = new Environment();
    const device = openCharDevice(descriptor, env);
    const guest = new Guest();
    device.setInput(guest);
    const output = vcpuOutput(descriptor);
    print(output, "early ");
    const first = connectUnix(socket);
    env.serve();
    print(output, "late");
    assert.equal(readText(first), "early late");
    write(first, bytes("one "));
    env.serve();
    const second = connectUnix(socket);
    env.serve();
    assert.equal(readText(first), "");
    print(output, "again");
    assert.equal(readAll(second, 5), "again");
    write(second, bytes("two"));
    close(second);
    env.serve();
    assert.equal(guest.text, "one two");
    print(output, "kept");
    assert.equal(ChardevBlock.attach(descriptor.block).count, 4);
    const callbacks = env.callbacks;
    env.serve();
    assert.equal(env.callbacks, callbacks);
    device.stop();
    closeChardev(descriptor);
    assert.throws(() => Deno.lstatSync(socket), Deno.errors.NotFound);
    close(first);
    env.close();
  }));

Deno.test("mode Socket takes a stale file over, but neither a live socket nor another file", () =>
  inDirectory((directory) => {
    const inUse = (e: HostError) => e instanceof HostError && e.errno === Errno.EADDRINUSE;
    const stale = `${directory}/stale`;
    close(listenUnix(stale));
    closeChardev(openChardev("serial", { mode: "Socket", socket: stale })!);
    const live = `${directory}/live`;
    const listener = listenUnix(live);
    assert.throws(() => openChardev("serial", { mode: "Socket", socket: live }), inUse);
    close(listener);
    const file = `${directory}/file`;
    Deno.writeTextFileSync(file, "precious");
    assert.throws(() => openChardev("serial", { mode: "Socket", socket: file }), inUse);
    assert.equal(Deno.readTextFileSync(file), "precious");
  }));

Deno.test("closeChardev() leaves a socket file that is not ours any more", () =>
  inDirectory((directory) => {
    const socket = `${directory}/s`;
    const descriptor = openChardev("serial", { mode: "Socket", socket })!;
    Deno.renameSync(socket, `${directory}/moved`);
    const listener = listenUnix(socket);
    closeChardev(descriptor);
    assert.equal(Deno.lstatSync(socket).isSocket, true);
    close(listener);
  }));

Deno.test("closeChardev() stops output of every isolate", () => {
  const descriptor = openStandardOutput();
  const output = vcpuOutput(descriptor);
  closeChardev(descriptor);
  print(output, "nobody hears this");
  const state = ChardevBlock.attach(descriptor.block);
  assert.equal(state.writer, NO_WRITER);
  assert.equal(state.count, 0);
});

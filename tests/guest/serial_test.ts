/** The serial port in all its modes, both directions, with a guest that drives it by hand; the debug ports. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Capture } from "@tests/framework/capture.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { type Command, Puppet } from "@tests/framework/puppet.ts";
import { Pty } from "@tests/framework/pty.ts";
import { guestTest, IS_REFERENCE, startVm } from "./subject.ts";

const DATA = 0x3f8;
const LINE_STATUS = 0x3fd;
const DATA_READY = 1;
const TRANSMITTER_EMPTY = 0x60;
const ABSENT = 0xff;

/** Commands that print text. */
function print(text: string): Command[] {
  return [...new TextEncoder().encode(text)].map((byte) => ["outb", DATA, byte]);
}

/** Reads `count` bytes from the port, each when it is there. */
async function receive(puppet: Puppet, count: number): Promise<string> {
  const bytes: number[] = [];
  while (bytes.length < count) {
    await eventually(
      "a byte at the serial port",
      async () => ((await puppet.run(["inb", LINE_STATUS]))[0] & DATA_READY) === DATA_READY,
    );
    bytes.push((await puppet.run(["inb", DATA]))[0]);
  }
  assert.equal((await puppet.run(["inb", LINE_STATUS]))[0] & DATA_READY, 0, "more than was sent");
  return new TextDecoder().decode(Uint8Array.from(bytes));
}

const LINES = Array.from({ length: 40 }, (_, line) => `line ${line}: ${"#".repeat(line)}\n`).join("");

guestTest("serial mode File: the file holds what the guest wrote, and only of this boot", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm();
  const file = join(vm.directory, "serial");
  await Deno.writeTextFile(file, "from before");
  await vm.api.mustPut("vm.create", puppet.config({ serial: { mode: "File", file } }));
  assert.equal(await Deno.readTextFile(file), "");
  await vm.api.mustPut("vm.boot");
  await puppet.started();
  await puppet.run(...print(LINES));
  assert.equal(await Deno.readTextFile(file), `U${LINES}`);
  await vm.api.mustPut("vm.reboot");
  await puppet.started(2);
  await puppet.run(...print("again"));
  assert.equal(await Deno.readTextFile(file), "Uagain");
});

guestTest("serial mode Tty: the guest writes to standard output", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: puppet.args("tty"), api: false });
  await puppet.started();
  await puppet.run(...print(LINES));
  await vm.stdout.waitFor(`U${LINES}`);
  await puppet.leave(["outb", 0x600, 0x34]);
  assert.deepEqual(await vm.waitForExit(), { code: 0, signal: null });
  assert.equal(vm.stdout.text, `U${LINES}`);
});

guestTest("serial mode Null: the port is there, nothing comes out", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: puppet.args("null") });
  await puppet.started();
  await puppet.run(...print(LINES));
  assert.deepEqual(await puppet.run(["inb", LINE_STATUS]), [TRANSMITTER_EMPTY]);
  await vm.stop();
  assert.equal(vm.stdout.text, "");
});

guestTest("serial mode Off: there is no port", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: puppet.args("off") });
  await puppet.started();
  const ports = Array.from({ length: 8 }, (_, register): Command => ["inb", DATA + register]);
  assert.deepEqual(await puppet.run(...ports), Array(8).fill(ABSENT));
  assert.equal((await vm.api.info()).config.serial.mode, "Off");
});

guestTest(
  "serial mode Pty: what was written before somebody looks is kept, and typing reaches the guest",
  async () => {
    await using puppet = await Puppet.make();
    await using vm = await startVm({ args: puppet.args("pty") });
    await puppet.started();
    await puppet.run(...print(LINES));
    const path = (await vm.api.info()).config.serial.file;
    assert.match(path, /^\/dev\/pts\/\d+$/);
    {
      await using pty = await Pty.open(path);
      await pty.expect(`U${LINES}`);
      await pty.send("typed\n");
      assert.equal(await receive(puppet, 6), "typed\n");
      await puppet.run(...print("answer\n"));
      await pty.expect("answer\n");
    }
    // The next one who looks sees what comes then.
    await puppet.run(...print("unseen\n"));
    await using pty = await Pty.open(path);
    await pty.expect("unseen\n");
  },
);

/** A connection to a console socket. */
async function connect(path: string): Promise<{ connection: Deno.UnixConn; output: Capture } & Disposable> {
  const connection = await Deno.connect({ transport: "unix", path });
  const output = new Capture(path, connection.readable);
  return {
    connection,
    output,
    [Symbol.dispose]() {
      try {
        connection.close();
      } catch {
        // The other side closed it, and the stream with it.
      }
    },
  };
}

guestTest("serial mode Socket: replay, typing, a second client takes over, no file is left", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: puppet.args("socket={dir}/serial.sock") });
  const path = join(vm.directory, "serial.sock");
  await puppet.started();
  // The original replays 256 bytes at once, the rest when the guest writes again.
  const kept = IS_REFERENCE ? LINES.slice(0, 200) : LINES;
  await puppet.run(...print(kept));
  {
    using first = await connect(path);
    await first.output.waitFor(`U${kept}`);
    await first.connection.write(new TextEncoder().encode("hello"));
    assert.equal(await receive(puppet, 5), "hello");
    using second = await connect(path);
    await first.output.done;
    await puppet.run(...print("for the second"));
    await second.output.waitFor("for the second");
    assert.ok(!first.output.text.includes("second"));
  }
  // The original does not notice that the second has gone.
  if (!IS_REFERENCE) {
    // What is written before the VMM learns that the second has gone is lost with it: the third is there first.
    using third = await connect(path);
    await puppet.run(...print("for the third"));
    await third.output.waitFor("for the third");
  }
  assert.deepEqual(await vm.stop(), { code: 0, signal: null });
  await assert.rejects(Deno.lstat(path), Deno.errors.NotFound);
});

guestTest("debug console: File mode at its default port and at another", async () => {
  for (const [option, port] of [["", 0xe9], [",iobase=0x1e9", 0x1e9]] as const) {
    await using puppet = await Puppet.make();
    await using vm = await startVm({
      args: [...puppet.args(), "--debug-console", `file={dir}/debug${option}`],
    });
    await puppet.started();
    const bytes = [...new TextEncoder().encode("debug!\n")].map((byte): Command => ["outb", port, byte]);
    assert.equal((await puppet.run(...bytes, ["inb", port])).at(-1), 0);
    assert.equal(await Deno.readTextFile(join(vm.directory, "debug")), "debug!\n");
  }
});

guestTest("the firmware's debug port writes to standard output, port 0x80 to the log", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: puppet.args() });
  await puppet.started();
  const bytes = [...new TextEncoder().encode("firmware\n")].map((byte): Command => ["outb", 0x402, byte]);
  assert.equal((await puppet.run(...bytes, ["outb", 0x80, 0x41], ["inb", 0x402])).at(-1), 0xe9);
  await vm.stdout.waitFor("firmware\n");
  await vm.stderr.waitFor(/\[Debug I\/O port: Kernel code 0x41\] \d+\.\d{6} seconds/);
});

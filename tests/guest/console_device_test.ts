/**
 * The virtio console in its modes, both directions, driven by a puppet, on both programs.
 *
 * The names in front are those of the original's own tests (docs/upstream-tests.md).
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { eventually } from "@tests/framework/deadline.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { Pty } from "@tests/framework/pty.ts";
import { DriverMemory, VirtioDriver } from "@tests/framework/virtio_driver.ts";
import { guestTest, startVm } from "./subject.ts";

const CONSOLE = 3;
const RECEIVE = 0;
const TRANSMIT = 1;
const TEXT = Array.from({ length: 40 }, (_, line) => `line ${line} ${"=".repeat(line)}\n`).join("");

/** Arguments with another console mode. */
function withConsole(puppet: Puppet, mode: string): string[] {
  return puppet.args().map((arg, i, all) => all[i - 1] === "--console" ? mode : arg);
}

async function print(driver: VirtioDriver, text: string): Promise<void> {
  await driver.queues[TRANSMIT].submit({ send: new TextEncoder().encode(text) });
  await driver.notify(TRANSMIT);
  await driver.queues[TRANSMIT].complete();
}

/** Text the host typed, at least `length` characters of it. */
async function typed(driver: VirtioDriver, length: number): Promise<string> {
  let text = "";
  while (text.length < length) {
    const { addresses } = await driver.queues[RECEIVE].submit({ receive: 64 });
    await driver.notify(RECEIVE);
    const { writtenBytes } = await driver.queues[RECEIVE].complete();
    text += new TextDecoder().decode(await driver.memory.puppet.readMemory(addresses[0], writtenBytes));
  }
  return text;
}

guestTest("test_virtio_console: text of the guest comes out of standard output", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: withConsole(puppet, "tty") });
  await puppet.started();
  const driver = await VirtioDriver.start(new DriverMemory(puppet), CONSOLE);
  await print(driver, TEXT);
  await vm.stdout.waitFor(TEXT);
});

guestTest("test_console_file: text of the guest is in the file", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: withConsole(puppet, "file={dir}/out") });
  await puppet.started();
  const driver = await VirtioDriver.start(new DriverMemory(puppet), CONSOLE);
  await print(driver, TEXT);
  const file = join(vm.directory, "out");
  await eventually("the text in the file", async () => await Deno.readTextFile(file) === TEXT);
});

guestTest("test_pty_interaction: both directions through the terminal that vm.info names", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: withConsole(puppet, "pty") });
  await puppet.started();
  const path = (await vm.api.info()).config.console.file;
  assert.match(path, /^\/dev\/pts\/\d+$/);
  await using pty = await Pty.open(path);
  const driver = await VirtioDriver.start(new DriverMemory(puppet), CONSOLE);
  await print(driver, "login: ");
  await pty.expect("login: ");
  await pty.send("cloud\n");
  assert.equal(await typed(driver, 6), "cloud\n");
  await print(driver, TEXT);
  await pty.expect(TEXT);
  // The driver comes back after a reset, as firmware and kernel follow each other.
  await driver.restart();
  await pty.send("again\n");
  assert.equal(await typed(driver, 6), "again\n");
});

guestTest("test_double_tty: serial port and console both write to the terminal", async () => {
  await using puppet = await Puppet.make();
  const args = withConsole(puppet, "tty").map((arg, i, all) => all[i - 1] === "--serial" ? "tty" : arg);
  await using vm = await startVm({ args });
  await puppet.started();
  await vm.stdout.waitFor("U"); // the puppet's letter, on the serial port
  const driver = await VirtioDriver.start(new DriverMemory(puppet), CONSOLE);
  await print(driver, "console\n");
  await vm.stdout.waitFor("console\n");
});

guestTest("a console that is off is no device, one of mode Null takes all text", async () => {
  for (const mode of ["off", "null"]) {
    await using puppet = await Puppet.make();
    await using _vm = await startVm({ args: withConsole(puppet, mode) });
    await puppet.started();
    const started = VirtioDriver.start(new DriverMemory(puppet), CONSOLE);
    if (mode === "off") await assert.rejects(started, /No virtio device 3/);
    else await print(await started, TEXT);
  }
});

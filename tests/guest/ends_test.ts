/** How a guest and its VMM end: power off, reset, triple fault, signals, and what is left behind. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { eventually } from "@tests/framework/deadline.ts";
import { type Command, Puppet } from "@tests/framework/puppet.ts";
import { HALT, POWER_OFF, pvhElf } from "@tests/framework/tiny_guest.ts";
import { guestTest, startVm } from "./subject.ts";

const POWER_OFF_COMMAND: Command = ["outb", 0x600, 0x34];
const RESETS: Record<string, Command> = {
  "the keyboard controller": ["outb", 0x64, 0xfe],
  "the ACPI reset register": ["outb", 0x600, 1],
  "a triple fault": ["tripleFault"],
};

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}

guestTest("a guest that powers off ends the process with 0 and cleans up the socket", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: puppet.args(), events: true });
  await puppet.started();
  await vm.events.waitFor("vm/booted");
  await puppet.leave(POWER_OFF_COMMAND);
  assert.deepEqual(await vm.waitForExit(), { code: 0, signal: null });
  assert.equal(await exists(join(vm.directory, "api.sock")), false);
  assert.equal(await exists(join(vm.directory, "api.sock.lock")), true);
  assert.deepEqual((await vm.events.names()).slice(-3), ["vm/shutdown", "vm/deleted", "vmm/shutdown"]);
});

guestTest("a guest that powers off at once ends the process with 0", async () => {
  await using puppet = await Puppet.make();
  await Deno.writeFile(puppet.kernel, pvhElf(POWER_OFF));
  await using vm = await startVm({ args: puppet.args("file={dir}/serial"), api: false });
  assert.deepEqual(await vm.waitForExit(), { code: 0, signal: null });
  assert.equal(await Deno.readTextFile(join(vm.directory, "serial")), "U");
});

guestTest("--no-shutdown keeps the VMM and the configuration after a power off", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: [...puppet.args(), "--no-shutdown"], events: true });
  for (let round = 1; round <= 2; round++) {
    await puppet.started(round);
    await puppet.leave(POWER_OFF_COMMAND);
    await eventually("state Created", async () => (await vm.api.info()).state === "Created");
    await vm.api.mustPut("vm.boot");
  }
  await puppet.started(3);
  assert.equal(await vm.api.info().then((info) => info.state), "Running");
  assert.deepEqual(await vm.stop(), { code: 0, signal: null });
});

for (const [name, command] of Object.entries(RESETS)) {
  guestTest(`a reset by ${name} reboots the guest in the same process`, async () => {
    await using puppet = await Puppet.make();
    await using vm = await startVm({ args: puppet.args(), events: true });
    await puppet.started(1);
    for (let start = 2; start <= 4; start++) {
      await puppet.leave(command);
      await puppet.started(start);
    }
    await puppet.beats();
    await vm.events.waitFor("vm/rebooted", { count: 3 });
    assert.equal((await vm.api.info()).state, "Running");
    assert.equal(await puppet.starts(), 4);
    assert.deepEqual(await vm.stop(), { code: 0, signal: null });
  });
}

guestTest("other values in the ACPI sleep register do nothing", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: puppet.args() });
  await puppet.started();
  const sleepTypes = [0x20, 0x24, 0x28, 0x2c, 0x30, 0x14, 0x00, 0x02, 0xff];
  const read = await puppet.run(
    ...sleepTypes.map((value): Command => ["outb", 0x600, value]),
    ["inb", 0x600],
    ["outb", 0x64, 0xff],
    ["outb", 0x61, 0xfe],
    ["inb", 0x64],
    ["inb", 0x61],
  );
  assert.deepEqual([read[9], read[12], read[13]], [0, 0, 0x20]);
  await puppet.beats();
  assert.equal(await puppet.starts(), 1);
  assert.equal((await vm.api.info()).state, "Running");
});

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  guestTest(`${signal} ends a VMM with a running guest with 0 and cleans up the socket`, async () => {
    await using puppet = await Puppet.make();
    await using vm = await startVm({ args: [...puppet.args(), "--cpus", "boot=2"] });
    await puppet.started();
    vm.kill(signal);
    assert.deepEqual(await vm.waitForExit(), { code: 0, signal: null });
    assert.equal(await exists(join(vm.directory, "api.sock")), false);
  });

  guestTest(`${signal} ends a VMM without a guest, with a paused one and with a halted one`, async () => {
    await using empty = await startVm();
    empty.kill(signal);
    assert.deepEqual(await empty.waitForExit(), { code: 0, signal: null });

    await using puppet = await Puppet.make();
    await using paused = await startVm({ args: puppet.args() });
    await puppet.started();
    await paused.api.mustPut("vm.pause");
    paused.kill(signal);
    assert.deepEqual(await paused.waitForExit(), { code: 0, signal: null });

    await Deno.writeFile(puppet.kernel, pvhElf(HALT));
    await using halted = await startVm({ args: puppet.args("file={dir}/serial") });
    const serial = join(halted.directory, "serial");
    await eventually(
      "the guest's letter",
      async () => await Deno.readTextFile(serial).catch(() => "") === "U",
    );
    halted.kill(signal);
    assert.deepEqual(await halted.waitForExit(), { code: 0, signal: null });
    for (const vm of [empty, paused, halted]) {
      assert.equal(await exists(join(vm.directory, "api.sock")), false);
    }
  });
}

guestTest("vmm.shutdown ends a VMM with a running guest with 0", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: puppet.args() });
  await puppet.started();
  assert.equal((await vm.api.put("vmm.shutdown")).status, 200);
  assert.deepEqual(await vm.waitForExit(), { code: 0, signal: null });
  assert.equal(await exists(join(vm.directory, "api.sock")), false);
});

guestTest("a socket left by a killed VMM is taken over, one in use is not", async () => {
  await using puppet = await Puppet.make();
  await using first = await startVm({ args: puppet.args() });
  await puppet.started();
  const socket = join(first.directory, "api.sock");
  first.kill("SIGKILL");
  assert.equal((await first.exited).signal, "SIGKILL");
  assert.equal(await exists(socket), true);

  // The second names the first's socket: its own directory has none.
  await using second = await startVm({ api: false, args: ["--api-socket", `path=${socket}`] });
  await eventually("an answer of the second", async () => {
    if (second.exit) assert.fail(second.stderr.text);
    return await first.api.get("vmm.ping").then(({ status }) => status === 200, () => false);
  });
  assert.equal((await first.api.get("vmm.ping")).json<{ pid: number }>().pid, second.pid);

  await using third = await startVm({ api: false, args: ["--api-socket", socket] });
  assert.deepEqual(await third.waitForExit(), { code: 1, signal: null });
  assert.match(third.stderr.text, /already in use by another/);
  assert.equal((await first.api.get("vmm.ping")).json<{ pid: number }>().pid, second.pid);

  assert.deepEqual(await second.stop(), { code: 0, signal: null });
  assert.equal(await exists(socket), false);
});

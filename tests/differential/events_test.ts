/**
 * The event monitor beside the original's: a VM's life by API and by guest, every event with its source, name and
 * properties, in order.
 *
 * Hot-plug has a test of its own (`hotplug_test.ts`), so have refused operations (the state matrix).
 *
 * @module
 */
import assert from "node:assert/strict";
import { TempDisk } from "@tests/framework/images.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { type ProgramName, testWith } from "@tests/framework/programs.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { DriverMemory, readPci, VirtioDriver } from "@tests/framework/virtio_driver.ts";
import { Vm } from "@tests/framework/vm.ts";

const NEEDS = { kvm: true, binary: true, reference: true };
const MIB = 1 << 20;
const BLOCK = 2;
const SLOTS = 32;
const PVPANIC_ID = 0x0011_1b36;
const BAR0 = 0x10;
/** Panicked, crash loaded, and what is neither. */
const PANIC_KINDS = [1, 2, 3, 0, 9, 0xff];
const KEYBOARD_COMMAND = 0x64;
const RESET = 0xfe;
const SHUTDOWN_PORT = 0x600;
const SLEEP_OFF = 0x34;

/** The events as they are written, byte for byte; directories and timestamps taken out. */
async function eventsOf(vm: Vm, puppet: Puppet): Promise<string[]> {
  const text = (await Deno.readTextFile(vm.events.path)).replaceAll(vm.directory, "@").replaceAll(
    puppet.directory,
    "@",
  );
  return text.replaceAll(/"(secs|nanos)": \d+/g, '"$1": 0').split(/(?<=\n\n)/);
}

/** Checks that the events' times follow each other within the VMM's life of at most `lifeMs`. */
async function checkTimes(vm: Vm, lifeMs: number): Promise<void> {
  let before = 0;
  for (const { timestamp: { secs, nanos }, event } of await vm.events.all()) {
    const time = secs * 1e3 + nanos / 1e6;
    assert.ok(Number.isInteger(secs) && Number.isInteger(nanos) && nanos >= 0 && nanos < 1e9, event);
    assert.ok(
      time >= before && time <= lifeMs,
      `${event} at ${time} ms, after ${before} ms, within ${lifeMs}`,
    );
    before = time;
  }
}

async function panicRegister(puppet: Puppet): Promise<number> {
  for (let slot = 0; slot < SLOTS; slot++) {
    if (await readPci(puppet, slot, 0) !== PVPANIC_ID) continue;
    return await puppet.map(((await readPci(puppet, slot, BAR0)) & ~0xf) >>> 0);
  }
  throw new Error("No pvpanic");
}

/** Waits until there are `count` events of that name: the next step must not overtake it. */
const told = (vm: Vm, name: string, count = 1) =>
  eventually(
    `${name} (${count})`,
    async () => (await vm.events.names()).filter((one) => one === name).length >= count,
  );

/** One life, told by its events. */
async function live(program: ProgramName): Promise<string[]> {
  await using puppet = await Puppet.make();
  await using disk = await TempDisk.pattern(MIB);
  const startMs = performance.now();
  await using vm = await Vm.start({ program, events: true, args: ["--no-shutdown"] });
  await vm.api.mustPut(
    "vm.create",
    puppet.config({
      disks: [{ id: "d0", path: disk.path, image_type: "Raw" }],
      pvpanic: true,
    }),
  );
  await vm.api.mustPut("vm.boot");
  await told(vm, "vm/booted");
  await puppet.started();

  const driver = await VirtioDriver.start(new DriverMemory(puppet), BLOCK);
  await told(vm, "virtio-device/activated");
  await driver.restart();
  await told(vm, "virtio-device/activated", 2);

  await vm.api.mustPut("vm.pause");
  await vm.api.mustPut("vm.resume");
  await vm.api.mustPut("vm.resize", {});
  await vm.api.mustPut("vm.power-button");
  assert.equal((await vm.api.put("vm.snapshot", { destination_url: "file:///nonexistent" })).status, 500);

  const at = await panicRegister(puppet);
  for (const [index, kind] of PANIC_KINDS.entries()) {
    await puppet.run(["writeb", at, kind]);
    await told(vm, "guest/panic", index + 1);
  }

  await puppet.leave(["outb", KEYBOARD_COMMAND, RESET]);
  await told(vm, "vm/rebooted");
  await puppet.started(2);
  await vm.api.mustPut("vm.reboot");
  await puppet.started(3);
  await puppet.leave(["outb", SHUTDOWN_PORT, SLEEP_OFF]);
  await told(vm, "vm/shutdown");
  await eventually("the VM at rest", async () => (await vm.api.info()).state === "Created");
  await vm.api.mustPut("vm.boot");
  await puppet.started(4);
  await vm.api.mustPut("vm.shutdown");
  await vm.api.mustPut("vm.delete");
  await vm.api.put("vmm.shutdown");
  await vm.waitForExit();
  if (program !== "reference") await checkTimes(vm, performance.now() - startMs);
  return await eventsOf(vm, puppet);
}

testWith(NEEDS, "events of a VM's life are the original's, with their properties, in order", async () => {
  const [theirs, ours] = await Promise.all([live("reference"), live("cloud-hypervisor")]);
  // The original sometimes ends before its last events are written: a listed difference.
  assert.deepEqual(ours.slice(0, theirs.length), theirs);
  const rest = ours.slice(theirs.length).map((text) => {
    const { source, event, properties } = JSON.parse(text);
    return { source, event, properties };
  });
  const last = { source: "vmm", event: "shutdown", properties: null };
  assert.deepEqual(rest, theirs.length === ours.length ? [] : [last]);
});

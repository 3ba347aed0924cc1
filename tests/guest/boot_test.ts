/** Booting by command line and by REST, and the states of a VM. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Puppet } from "@tests/framework/puppet.ts";
import { COUNT, HALT, pvhElf, SPIN } from "@tests/framework/tiny_guest.ts";
import type { Vm } from "@tests/framework/vm.ts";
import { guestTest, startVm } from "./subject.ts";

async function state(vm: Vm): Promise<string> {
  return (await vm.api.info()).state;
}

guestTest("a command line boots a guest, and the events say so", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: puppet.args("file={dir}/serial"), events: true });
  await puppet.started();
  await vm.events.waitFor("vm/booted");
  assert.deepEqual(await vm.events.names(), ["vmm/starting", "vm/booting", "vm/booted"]);
  const info = await vm.api.info();
  assert.equal(info.state, "Running");
  assert.equal(info.memory_actual_size, puppet.sizeBytes);
  assert.equal(info.config.payload.kernel, puppet.kernel);
  assert.equal(await Deno.readTextFile(join(vm.directory, "serial")), "U");
  assert.deepEqual(await vm.stop(), { code: 0, signal: null });
  assert.deepEqual((await vm.events.names()).slice(3), ["vm/shutdown", "vm/deleted", "vmm/shutdown"]);
});

guestTest("a command line boots a guest without an API socket", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: puppet.args(), api: false });
  await puppet.started();
  await puppet.beats();
  assert.deepEqual(await vm.stop(), { code: 0, signal: null });
});

guestTest("REST creates, boots, shuts down, boots again and deletes a VM", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ events: true });
  assert.equal((await vm.api.get("vm.info")).status, 404);
  assert.equal((await vm.api.put("vm.boot")).status, 404);
  assert.equal((await vm.api.put("vm.create", puppet.config())).status, 204);
  assert.equal(await state(vm), "Created");
  assert.equal((await vm.api.put("vm.create", puppet.config())).status, 500);
  for (let round = 1; round <= 3; round++) {
    assert.equal((await vm.api.put("vm.boot")).status, 204);
    assert.equal(await state(vm), "Running");
    await puppet.started(round);
    assert.equal((await vm.api.put("vm.boot")).status, 500);
    assert.equal((await vm.api.put("vm.shutdown")).status, 204);
    assert.equal(await state(vm), "Created");
    assert.equal((await vm.api.put("vm.shutdown")).status, 500);
  }
  assert.equal((await vm.api.put("vm.delete")).status, 204);
  assert.equal((await vm.api.get("vm.info")).status, 404);
  assert.equal((await vm.api.put("vm.delete")).status, 204);
  assert.deepEqual((await vm.events.names()).filter((name) => /boot|shutdown|deleted/.test(name)), [
    "vm/booting", // answered with 404
    ...Array(3).fill(["vm/booting", "vm/booted", "vm/shutdown"]).flat(),
    "vm/deleted",
  ]);
});

guestTest("a deleted VM can be followed by another", async () => {
  await using first = await Puppet.make();
  await using second = await Puppet.make(128 << 20);
  await using vm = await startVm();
  for (const puppet of [first, second]) {
    await vm.api.mustPut("vm.create", puppet.config());
    await vm.api.mustPut("vm.boot");
    await puppet.started();
    assert.equal((await vm.api.info()).memory_actual_size, puppet.sizeBytes);
    // vm.delete ends a running VM.
    await vm.api.mustPut("vm.delete");
  }
});

guestTest("pause, resume, reboot, NMI, power button and counters follow the state", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm();
  const calls = ["pause", "resume", "reboot", "nmi", "power-button", "shutdown"] as const;
  const statuses = async (names: readonly string[]) => {
    const found: Record<string, number> = {};
    for (const name of names) found[name] = (await vm.api.put(`vm.${name}`)).status;
    return found;
  };
  const cold = { pause: 500, resume: 500, reboot: 404, nmi: 500, "power-button": 500, shutdown: 500 };
  assert.deepEqual(await statuses(calls), cold);
  assert.equal((await vm.api.get("vm.counters")).status, 500);
  await vm.api.mustPut("vm.create", puppet.config());
  assert.deepEqual(await statuses(calls), cold);
  await vm.api.mustPut("vm.boot");
  await puppet.started();
  assert.equal((await vm.api.put("vm.resume")).status, 500);
  assert.equal((await vm.api.get("vm.counters")).body, "{}");
  assert.equal((await vm.api.put("vm.power-button")).status, 204);
  assert.equal((await vm.api.put("vm.pause")).status, 204);
  assert.equal(await state(vm), "Paused");
  const refused = await vm.api.put("vm.pause");
  assert.equal(refused.status, 500);
  assert.deepEqual(
    refused.json<string[]>().at(-1),
    "Invalid transition: InvalidStateTransition(Paused, Paused)",
  );
  assert.equal((await vm.api.put("vm.boot")).status, 500);
  assert.equal((await vm.api.put("vm.reboot")).status, 204);
  assert.equal(await state(vm), "Running");
  await puppet.started(2);
  await puppet.beats();
});

for (
  const [name, code] of Object.entries({ spins: SPIN, counts: COUNT, "halts with interrupts off": HALT })
) {
  guestTest(`the API answers while a guest ${name}, and ends it`, async () => {
    await using vm = await startVm();
    const kernel = join(vm.directory, "kernel");
    await Deno.writeFile(kernel, pvhElf(code));
    const serial = join(vm.directory, "serial");
    await vm.api.mustPut("vm.create", {
      payload: { kernel },
      cpus: { boot_vcpus: 4, max_vcpus: 4 },
      memory: { size: 64 << 20 },
      serial: { mode: "File", file: serial },
      console: { mode: "Off" },
    });
    await vm.api.mustPut("vm.boot");
    for (let call = 0; call < 20; call++) {
      assert.equal((await vm.api.get("vmm.ping")).status, 200);
      assert.equal(await state(vm), "Running");
    }
    await vm.api.mustPut("vm.pause");
    assert.equal(await state(vm), "Paused");
    await vm.api.mustPut("vm.resume");
    await vm.api.mustPut("vm.shutdown");
    assert.equal((await vm.api.put("vmm.shutdown")).status, 200);
    assert.deepEqual(await vm.waitForExit(), { code: 0, signal: null });
  });
}

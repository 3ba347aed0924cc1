/** Pause means that no vCPU of the guest executes anything; resume goes on where it stopped; no kick is lost. */
import assert from "node:assert/strict";
import { eventually } from "@tests/framework/deadline.ts";
import { HttpConnection } from "@tests/framework/http_client.ts";
import { type Command, Puppet } from "@tests/framework/puppet.ts";
import { hex } from "@tests/framework/tiny_guest.ts";
import type { Vm } from "@tests/framework/vm.ts";
import { guestTest, startVm } from "./subject.ts";

/** What an application processor runs from `START_GPA` on, in real mode. */
const START_GPA = 0x8000;
const STARTED = 0x8100;
const COUNTERS = 0x8110;
/**
 * Takes a number from `STARTED`, then counts for ever in the counter of that number.
 * `mov %cs,%ax; mov %ax,%ds; mov $1,%ax; lock xadd %ax,0x100; mov %ax,%bx; shl $2,%bx; 1: incl 0x110(%bx); jmp 1b`
 */
const COUNT_BY_NUMBER = hex("8cc8 8ed8 b80100 f00fc1060001 89c3 c1e302 66ff871001 ebf9");

const LOCAL_APIC_ICR = 0xfee0_0300;
const ALL_BUT_SELF_INIT = 0xc_4500;
const ALL_BUT_SELF_STARTUP = 0xc_4600 + (START_GPA >> 12);

/** Starts all other processors, as an operating system does it. */
async function startOthers(puppet: Puppet, others: number): Promise<void> {
  await puppet.writeMemory(START_GPA, COUNT_BY_NUMBER);
  const startup: Command[] = [
    ["writel", LOCAL_APIC_ICR, ALL_BUT_SELF_INIT],
    ["writel", LOCAL_APIC_ICR, ALL_BUT_SELF_STARTUP],
    ["writel", LOCAL_APIC_ICR, ALL_BUT_SELF_STARTUP],
  ];
  await puppet.run(...startup);
  await eventually(
    `${others} started processors`,
    async () => (await puppet.readMemory(STARTED, 1))[0] === others,
  );
}

/** Counters of the other processors and the heartbeat of the first. */
async function progress(puppet: Puppet, others: number): Promise<number[]> {
  const bytes = await puppet.readMemory(COUNTERS, others * 4);
  return [...new Uint32Array(bytes.buffer), await puppet.heartbeat()];
}

/** Passes when every processor has executed something since `before`. */
async function allProceed(puppet: Puppet, before: number[]): Promise<void> {
  await eventually("progress of every processor", async () => {
    const now = await progress(puppet, before.length - 1);
    return now.every((count, cpu) => count !== before[cpu]);
  });
}

/** Passes when nothing is executed while many requests are answered. */
async function allStandStill(vm: Vm, puppet: Puppet, others: number): Promise<number[]> {
  const before = await progress(puppet, others);
  for (let call = 0; call < 50; call++) {
    assert.equal((await vm.api.info()).state, "Paused");
    assert.deepEqual(await progress(puppet, others), before);
  }
  return before;
}

for (const cpus of [1, 2, 4]) {
  guestTest(`a paused guest with ${cpus} vCPUs executes nothing and goes on after resume`, async () => {
    const others = cpus - 1;
    await using puppet = await Puppet.make();
    await using vm = await startVm({ args: [...puppet.args(), "--cpus", `boot=${cpus}`], events: true });
    await puppet.started();
    if (others > 0) await startOthers(puppet, others);
    let before = await progress(puppet, others);
    for (let round = 0; round < 3; round++) {
      await allProceed(puppet, before);
      await vm.api.mustPut("vm.pause");
      before = await allStandStill(vm, puppet, others);
      await vm.api.mustPut("vm.resume");
    }
    await allProceed(puppet, before);
    const names = (await vm.events.names()).filter((name) => /paus|resum/.test(name));
    assert.deepEqual(names, Array(3).fill(["vm/pausing", "vm/paused", "vm/resuming", "vm/resumed"]).flat());
  });
}

guestTest("300 times paused and resumed, four vCPUs always go on", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: [...puppet.args(), "--cpus", "boot=4"] });
  await puppet.started();
  await startOthers(puppet, 3);
  using api = await HttpConnection.open(vm.api.socketPath);
  const call = async (name: string) => {
    const { status, body } = await api.request("PUT", `/api/v1/vm.${name}`);
    assert.equal(status, 204, body);
  };
  for (let cycle = 0; cycle < 300; cycle++) {
    await call("pause");
    const before = await progress(puppet, 3);
    assert.deepEqual(await progress(puppet, 3), before);
    await call("resume");
    // Every tenth time all must be seen to run: in between, the next pause comes as early as it can.
    if (cycle % 10 === 0) await allProceed(puppet, before);
  }
  await allProceed(puppet, await progress(puppet, 3));
});

guestTest(
  "300 times paused and resumed in the middle of device accesses, none is lost or done twice",
  async () => {
    await using puppet = await Puppet.make();
    await using vm = await startVm({ args: puppet.args() });
    await puppet.started();
    // Scratch register of the serial port: port accesses that leave the guest, each answer known.
    const rounds: Command[] = Array.from({ length: 15_000 }, (_, i): Command[] => [
      ["outb", 0x3ff, i & 0xff],
      ["inb", 0x3ff],
    ]).flat();
    using api = await HttpConnection.open(vm.api.socketPath);
    const running = puppet.run(...rounds);
    let done = false;
    running.finally(() => done = true);
    let cycles = 0;
    while (cycles < 300 || !done) {
      for (const name of ["pause", "resume"]) {
        assert.equal((await api.request("PUT", `/api/v1/vm.${name}`)).status, 204);
      }
      cycles++;
    }
    const read = (await running).filter((_, index) => index % 2 === 1);
    assert.deepEqual(read, Array.from({ length: 15_000 }, (_, i) => i & 0xff));
  },
);

guestTest("a guest that is paused can be reset, shut down and booted", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: puppet.args() });
  await puppet.started();
  await vm.api.mustPut("vm.pause");
  await vm.api.mustPut("vm.reboot");
  await puppet.started(2);
  await vm.api.mustPut("vm.pause");
  await vm.api.mustPut("vm.shutdown");
  const last = await puppet.heartbeat();
  assert.equal((await vm.api.info()).state, "Created");
  assert.equal(await puppet.heartbeat(), last);
  await vm.api.mustPut("vm.boot");
  await puppet.started(3);
  await puppet.beats();
});

/** vCPUs: their threads, their identities as seen by the guest, and topologies. */
import assert from "node:assert/strict";
import { eventually } from "@tests/framework/deadline.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { hex } from "@tests/framework/tiny_guest.ts";
import type { Vm } from "@tests/framework/vm.ts";
import { betterTest, guestTest, startVm } from "./subject.ts";

const START_GPA = 0x8000;
const COUNT_OFFSET = 0x100;
const IDENTITIES = 0x110;
/**
 * Stores the local APIC's number (CPUID leaf 0xb) of each processor behind those of the others, then halts.
 * `mov %cs,%ax; mov %ax,%ds; mov $0xb,%eax; xor %ecx,%ecx; cpuid; mov $1,%ax; lock xadd %ax,0x100; mov %ax,%bx;
 * shl $2,%bx; mov %edx,0x110(%bx); lock incw 0x102; 1: cli; hlt; jmp 1b`
 */
const STORE_IDENTITY = hex(`
  8cc8 8ed8 66b80b000000 6631c9 0fa2 b80100 f00fc1060001 89c3 c1e302 6689971001 f0ff060201 fa f4 ebfc`);

/** No host has as many. */
const NO_CPU = 9_999;

const LOCAL_APIC_ICR = 0xfee0_0300;

/** APIC numbers of all processors but the first, sorted. */
async function identities(puppet: Puppet, others: number): Promise<number[]> {
  await puppet.writeMemory(START_GPA, STORE_IDENTITY);
  await puppet.run(
    ["writel", LOCAL_APIC_ICR, 0xc_4500],
    ["writel", LOCAL_APIC_ICR, 0xc_4600 + (START_GPA >> 12)],
    ["writel", LOCAL_APIC_ICR, 0xc_4600 + (START_GPA >> 12)],
  );
  const counts = async () =>
    new Uint16Array((await puppet.readMemory(START_GPA + COUNT_OFFSET, 4)).buffer)[1];
  await eventually(`identities of ${others} processors`, async () => await counts() === others);
  const bytes = await puppet.readMemory(START_GPA + IDENTITIES, others * 4);
  return [...new Uint32Array(bytes.buffer)].sort((a, b) => a - b);
}

async function vcpuThreads(vm: Vm): Promise<string[]> {
  return (await vm.threads()).filter((name) => name.startsWith("vcpu"));
}

/** Host CPUs that threads of a name may run on, as `Cpus_allowed_list` tells. */
async function allowed(vm: Vm, thread: string): Promise<string> {
  for await (const { name } of Deno.readDir(`/proc/${vm.pid}/task`)) {
    // Threads of the pool come and go.
    const status = await Deno.readTextFile(`/proc/${vm.pid}/task/${name}/status`).catch(() => "");
    if (status.startsWith(`Name:\t${thread}\n`)) return /^Cpus_allowed_list:\s*(.*)$/m.exec(status)![1];
  }
  throw new Error(`No thread "${thread}"`);
}

for (const count of [1, 2, 4, 8]) {
  guestTest(`${count} vCPUs: a thread each, all start, all end`, async () => {
    await using puppet = await Puppet.make();
    await using vm = await startVm();
    const cpus = { boot_vcpus: count, max_vcpus: count };
    await vm.api.mustPut("vm.create", puppet.config({ cpus }));
    await vm.api.mustPut("vm.boot");
    await puppet.started();
    assert.deepEqual(await vcpuThreads(vm), Array.from({ length: count }, (_, cpu) => `vcpu${cpu}`));
    const expected = Array.from({ length: count - 1 }, (_, cpu) => cpu + 1);
    assert.deepEqual(await identities(puppet, count - 1), expected);
    await vm.api.mustPut("vm.shutdown");
    await eventually("the end of the vCPU threads", async () => (await vcpuThreads(vm)).length === 0);
  });
}

betterTest("nothing has a vCPU's name before there is a VM", "it rehearses nothing", async () => {
  await using vm = await startVm();
  const seen = new Set<string>();
  await eventually("the rehearsal's threads to rest", async () => {
    for (const name of await vm.threads()) seen.add(name);
    const targets = [...(await vm.descriptors()).values()];
    return seen.has("idle") && !targets.some((target) => target.includes("kvm-vm"));
  });
  assert.deepEqual([...seen].filter((name) => name.startsWith("vcpu")), []);
});

guestTest("more vCPUs than max_vcpus boot later: only those at boot have threads", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: [...puppet.args(), "--cpus", "boot=2,max=6"] });
  await puppet.started();
  // The first vCPU does not wait for the second: its thread is there for sure once it ran.
  assert.deepEqual(await identities(puppet, 1), [1]);
  assert.deepEqual(await vcpuThreads(vm), ["vcpu0", "vcpu1"]);
});

guestTest("APIC numbers follow the topology", async () => {
  await using puppet = await Puppet.make();
  // Three cores need two bits: numbers 3 and 7 of each package stay free.
  await using _vm = await startVm({ args: [...puppet.args(), "--cpus", "boot=6,topology=1:3:1:2"] });
  await puppet.started();
  assert.deepEqual(await identities(puppet, 5), [1, 2, 4, 5, 6]);
});

guestTest("affinity binds the vCPU's thread", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: [...puppet.args(), "--cpus", "boot=2,affinity=[0@[0],1@[0]]"] });
  await puppet.started();
  assert.deepEqual(await identities(puppet, 1), [1]);
  assert.deepEqual([await allowed(vm, "vcpu0"), await allowed(vm, "vcpu1")], ["0", "0"]);
});

betterTest(
  "a vCPU that cannot be bound keeps the others from running",
  "never answers vm.boot",
  async () => {
    await using puppet = await Puppet.make();
    await using vm = await startVm();
    const affinity = [{ vcpu: 1, host_cpus: [NO_CPU] }];
    await vm.api.mustPut("vm.create", puppet.config({ cpus: { boot_vcpus: 2, max_vcpus: 2, affinity } }));
    assert.equal((await vm.api.put("vm.boot")).status, 500);
    assert.equal((await vm.api.info()).state, "Created");
    for await (const { name: tid } of Deno.readDir(`/proc/${vm.pid}/task`)) {
      assert.doesNotMatch(
        await Deno.readTextFile(`/proc/${vm.pid}/task/${tid}/comm`).catch(() => ""),
        /^vcpu/,
      );
    }
    await vm.api.mustPut("vm.delete");
    await vm.api.mustPut("vm.create", puppet.config());
    await vm.api.mustPut("vm.boot");
    await puppet.started();
  },
);

const REFUSED: Record<string, { args: string; message: RegExp }> = {
  "max below boot": { args: "boot=2,max=1", message: /max/i },
  "a topology of another size": { args: "boot=2,topology=1:1:1:1", message: /topology/i },
  "four threads a core": { args: "boot=4,topology=4:1:1:1", message: /thread/i },
};

for (const [name, { args, message }] of Object.entries(REFUSED)) {
  guestTest(`refused: ${name}`, async () => {
    await using puppet = await Puppet.make();
    await using vm = await startVm({ api: false, args: [...puppet.args(), "--cpus", args] });
    assert.deepEqual(await vm.waitForExit(), { code: 1, signal: null });
    assert.match(vm.stderr.text, message);
  });
}

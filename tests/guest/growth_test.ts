/** Rebooting costs nothing that stays: descriptors, threads, memory. */
import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import { TempDisk } from "@tests/framework/images.ts";
import { type Command, Puppet } from "@tests/framework/puppet.ts";
import type { Vm } from "@tests/framework/vm.ts";
import { guestTest, startVm } from "./subject.ts";
import { scaled } from "@tests/framework/deadline.ts";

const MIB = 2 ** 20;
const WARM_UPS = 4;
const ROUNDS = 10;
const BATCHES = 3;
/**
 * A VM that stays behind costs more than this per round: its mappings, an isolate for each vCPU. Collectors let the heap
 * breathe by less, over all rounds.
 */
const ALLOWED_KIB = 20 * 1024;
/** Idle helper threads of the runtime come and go; what is lost per round would be as many as there are rounds. */
const ALLOWED_THREADS = 4;

interface Use {
  descriptors: string[];
  vcpus: string[];
  threads: number;
  pssKib: number;
}

async function use(vm: Vm): Promise<Use> {
  const threads = await vm.threads();
  const descriptors = [...(await vm.descriptors()).values()].map((target) => target.replace(/\d+/g, "N"));
  return {
    // A disk opens its ring when it first pays: it may be there or not.
    descriptors: descriptors.filter((name) => !name.includes("io_uring")).sort(),
    vcpus: threads.filter((name) => /^vcpu/.test(name)),
    threads: threads.length,
    pssKib: await vm.memoryKib("Pss"),
  };
}

const WAYS: Record<string, (vm: Vm, puppet: Puppet) => Promise<unknown>> = {
  "vm.reboot": (vm) => vm.api.mustPut("vm.reboot"),
  "the guest's reset": (_, puppet) => puppet.leave(["outb", 0x64, 0xfe] satisfies Command),
  "vm.shutdown and vm.boot": async (vm) => {
    await vm.api.mustPut("vm.shutdown");
    await vm.api.mustPut("vm.boot");
  },
  "vm.delete and vm.create": async (vm) => {
    const { config } = await vm.api.info();
    await vm.api.mustPut("vm.delete");
    await vm.api.mustPut("vm.create", config);
    await vm.api.mustPut("vm.boot");
  },
};

for (const [name, reboot] of Object.entries(WAYS)) {
  guestTest(`${ROUNDS} times ${name}: no more descriptors, threads and memory than before`, async () => {
    await using puppet = await Puppet.make();
    await using disk = await TempDisk.empty(MIB);
    await using vm = await startVm();
    await vm.api.mustPut(
      "vm.create",
      puppet.config({
        cpus: { boot_vcpus: 2, max_vcpus: 2 },
        disks: [{ path: disk.path, image_type: "Raw" }],
        serial: { mode: "Pty" },
        console: { mode: "Pty" },
      }),
    );
    await vm.api.mustPut("vm.boot");
    await puppet.started();
    let starts = 1;
    const rounds = async (count: number) => {
      for (let round = 0; round < count; round++) {
        await reboot(vm, puppet);
        await puppet.started(++starts);
      }
      // Whatever the last start still does in the background is done when requests are answered.
      assert.equal((await vm.api.info()).state, "Running");
    };
    await rounds(WARM_UPS);
    await vm.descriptorsAtRest();
    let before = await use(vm);
    for (let batch = 1;; batch++) {
      await rounds(ROUNDS);
      const after = await settled(vm, before);
      if (isDeepStrictEqual(after.descriptors, before.descriptors)) break;
      // Something was on its way out before. It leaves once; what grows by little could hide behind it, so again.
      assert.ok(batch < BATCHES, "Fewer descriptors after each batch of rounds");
      before = after;
    }
    assert.equal(await puppet.starts(), starts);
  });
}

/** What was used for a moment (a connection of this test, a thread on its way) is given back: asked until it is. */
async function settled(vm: Vm, before: Use): Promise<Use> {
  const end = performance.now() + SETTLE_MS;
  for (;;) {
    const after = await use(vm);
    try {
      checkUse(before, after);
      return after;
    } catch (error) {
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, SETTLE_STEP_MS));
    }
  }
}

const SETTLE_MS = scaled(120_000);
const SETTLE_STEP_MS = 200;

/** Those of `all` that are not among `others`; each stands for one. */
function beyond(all: readonly string[], others: readonly string[]): string[] {
  const left = [...others];
  return all.filter((name) => {
    const at = left.indexOf(name);
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  });
}

function checkUse(before: Use, after: Use): void {
  assert.deepEqual(beyond(after.descriptors, before.descriptors), []);
  assert.deepEqual(after.vcpus, ["vcpu0", "vcpu1"]);
  assert.ok(
    after.threads <= before.threads + ALLOWED_THREADS,
    `${before.threads} → ${after.threads} threads`,
  );
  assert.ok(after.pssKib <= before.pssKib + ALLOWED_KIB, `${before.pssKib} → ${after.pssKib} KiB`);
}

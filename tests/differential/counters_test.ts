/**
 * `vm.counters` beside the original, after the same requests of the guest's driver.
 */
import assert from "node:assert/strict";
import { BlockDriver, SECTOR, T } from "@tests/framework/block_driver.ts";
import { TempDisk } from "@tests/framework/images.ts";
import { type ProgramName, testWith } from "@tests/framework/programs.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { DriverMemory } from "@tests/framework/virtio_driver.ts";
import { Vm } from "@tests/framework/vm.ts";

const MIB = 1 << 20;
const BEYOND = MIB / SECTOR;

/** Counters of a disk, but how long requests took: of those, whether there is a value. */
async function countersOf(vm: Vm, id: string): Promise<Record<string, unknown>> {
  const { body } = await vm.api.get("vm.counters");
  const counters = JSON.parse(body, (_key, value, context?: { source?: string }) => context?.source ?? value);
  const unset = counters.idle;
  return Object.fromEntries(
    Object.entries(counters[id]).map(([name, value]) =>
      name.includes("latency") ? [name, value === unset[name] ? value : "measured"] : [name, value]
    ),
  );
}

/** What the counters are after each step. */
async function story(program: ProgramName): Promise<unknown[]> {
  await using puppet = await Puppet.make();
  await using disk = await TempDisk.pattern(MIB);
  await using idle = await TempDisk.pattern(MIB);
  await using vm = await Vm.start({ program });
  const disks = [["d", disk], ["idle", idle]] as const;
  await vm.api.mustPut(
    "vm.create",
    puppet.config({ disks: disks.map(([id, { path }]) => ({ id, path, image_type: "Raw" })) }),
  );
  await vm.api.mustPut("vm.boot");
  await puppet.started();
  const driver = await BlockDriver.start(new DriverMemory(puppet));
  const told = [await countersOf(vm, "d")];
  const steps: readonly (() => Promise<unknown>)[] = [
    () => driver.read(0, 3),
    () => driver.read(8),
    () => driver.write(1, new Uint8Array(5 * SECTOR).fill(7)),
    () => driver.flush(),
    () => driver.range(T.writeZeroes, 0, 2),
    () => driver.request(T.in, BEYOND, { receive: SECTOR }),
    () => driver.request(T.out, BEYOND, { send: new Uint8Array(SECTOR) }),
    () => driver.request(T.getId, 0, { receive: 20 }),
  ];
  for (const step of steps) {
    await step();
    told.push(await countersOf(vm, "d"));
  }
  told.push(await countersOf(vm, "idle"));
  return told;
}

testWith(
  { kvm: true, binary: true, reference: true },
  "counters of a disk after each kind of request are the original's",
  async () => {
    const [theirs, ours] = [await story("reference"), await story("cloud-hypervisor")];
    assert.deepEqual(ours, theirs);
    assert.equal((ours[1] as Record<string, unknown>).read_bytes, String(3 * SECTOR));
  },
);

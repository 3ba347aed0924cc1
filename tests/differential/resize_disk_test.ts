/**
 * `vm.resize-disk` beside the original: every format, before and while the guest's driver runs.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { run } from "@tests/framework/command.ts";
import { testWith } from "@tests/framework/programs.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { DriverMemory, VirtioDriver } from "@tests/framework/virtio_driver.ts";
import { type HttpResponse } from "@tests/framework/http_client.ts";
import { Vm } from "@tests/framework/vm.ts";

const MIB = 1 << 20;
const SECTOR = 512;
const BLOCK = 2;
const T_OUT = 1;

/** Name, configuration, and how qemu-img makes it; a file of zeros where it does not. */
const IMAGES = {
  raw: { image_type: "Raw" },
  detected: {},
  readonly: { image_type: "Raw", readonly: true },
  qcow2: { image_type: "Qcow2", make: ["-f", "qcow2"] },
  backed: {
    image_type: "Qcow2",
    backing_files: true,
    make: ["-f", "qcow2", "-F", "qcow2", "-b"],
    base: "qcow2",
  },
  vhd: { image_type: "FixedVhd", make: ["-f", "vpc", "-o", "subformat=fixed"] },
  vhdx: { image_type: "Vhdx", make: ["-f", "vhdx"] },
  vmdk: { image_type: "FlatVmdk", make: ["-f", "vmdk", "-o", "subformat=monolithicFlat"] },
} as const;

const SIZES = [2 * MIB, 513, MIB, 0];
/** More than a file can have. */
const HUGE = 2 ** 53;

/** Makes all images; returns their configurations. */
async function makeImages(directory: string): Promise<unknown[]> {
  const disks: unknown[] = [];
  for (const [id, image] of Object.entries(IMAGES)) {
    const { make, base, ...config } = { make: undefined, base: undefined, ...image };
    const path = join(directory, id);
    if (make === undefined) await Deno.writeFile(path, new Uint8Array(MIB));
    else {
      const origin = base === undefined ? [path, "1M"] : [join(directory, base), path];
      await run("qemu-img", "create", "-q", ...make, ...origin);
    }
    disks.push({ id, path, ...config });
  }
  return disks;
}

const needs = { kvm: true, binary: true, reference: true, commands: ["qemu-img"] };

testWith(needs, "resize-disk beside the original: formats and sizes, while no driver runs", async () => {
  const answers: Record<string, string[]> = {};
  for (const program of ["cloud-hypervisor", "reference"] as const) {
    await using puppet = await Puppet.make();
    await using vm = await Vm.start({ program });
    const directory = vm.directory;
    await vm.api.mustPut("vm.create", puppet.config({ disks: await makeImages(directory) }));
    const record = (label: string, { status, body }: HttpResponse) =>
      (answers[program] ??= []).push(`${label}: ${status} ${body}`);
    record("cold", await vm.api.put("vm.resize-disk", { id: "raw", desired_size: 2 * MIB }));
    await vm.api.mustPut("vm.boot");
    for (const id of [...Object.keys(IMAGES), "absent"]) {
      for (const desired_size of id === "raw" ? [...SIZES, HUGE] : SIZES) {
        record(`${id} ${desired_size}`, await vm.api.put("vm.resize-disk", { id, desired_size }));
      }
    }
    for (const id of ["raw", "readonly"]) {
      answers[program].push(`${(await Deno.stat(join(directory, id))).size}`);
    }
  }
  assert.deepEqual(answers["cloud-hypervisor"], answers["reference"]);
});

testWith(
  { kvm: true, binary: true, commands: ["qemu-img"] },
  "resize-disk: the driver finds the size a disk has got before it started, and uses it",
  async () => {
    for (const index of [0, 3]) {
      await using puppet = await Puppet.make();
      await using vm = await Vm.start({ program: "cloud-hypervisor" });
      const disk = (await makeImages(vm.directory))[index] as { id: string; path: string };
      await vm.api.mustPut("vm.create", puppet.config({ disks: [disk] }));
      await vm.api.mustPut("vm.boot");
      await puppet.started();
      const resize = (desired_size: number) =>
        vm.api.mustPut("vm.resize-disk", { id: disk.id, desired_size });
      await resize(3 * MIB);
      const driver = await VirtioDriver.start(new DriverMemory(puppet), BLOCK);
      const writeLastSector = async (sizeBytes: number): Promise<number> => {
        assert.equal(await driver.readConfig(0), sizeBytes / SECTOR);
        const header = new DataView(new ArrayBuffer(16));
        header.setUint32(0, T_OUT, true);
        header.setBigUint64(8, BigInt(sizeBytes / SECTOR - 1), true);
        const { addresses } = await driver.queues[0].submit(
          { send: new Uint8Array(header.buffer) },
          { send: new Uint8Array(SECTOR).fill(7) },
          { receive: 1 },
        );
        await driver.notify(0);
        await driver.queues[0].complete();
        return (await puppet.readMemory(addresses[2], 1))[0];
      };
      assert.equal(await writeLastSector(3 * MIB), 0);
      await resize(4 * MIB); // while the driver runs
      assert.equal(await writeLastSector(4 * MIB), 0);
      assert.equal((await vm.stop()).code, 0);
      if (disk.id === "qcow2") await run("qemu-img", "check", "-q", disk.path);
      else assert.equal((await Deno.stat(disk.path)).size, 4 * MIB);
    }
  },
);

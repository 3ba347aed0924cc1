/** Interrupts of a device another process serves: they reach the vCPU's APIC, with no thread of the VMM in between. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Daemon } from "@tests/framework/daemons.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { TempDisk } from "@tests/framework/images.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { DriverMemory, readPci, VirtioDriver } from "@tests/framework/virtio_driver.ts";
import type { Vm } from "@tests/framework/vm.ts";
import { betterTest, startVm } from "./subject.ts";

const BLOCK = 2;
const MIB = 1 << 20;
const SECTOR = 512;
const REQUESTS = 200;

const PCI_BAR0 = 0x10;
const PCI_CAPABILITIES = 0x34;
const CAP_VENDOR = 0x09;
const CAP_MSIX = 0x11;
const CFG_COMMON = 1;
const COMMON_QUEUE_SELECT = 22;
const COMMON_QUEUE_VECTOR = 26;
const VECTOR = 1;

/** Local APIC registers as every vCPU sees its own. */
const APIC = 0xfee0_0000;
const APIC_SPURIOUS = APIC + 0xf0;
const APIC_ENABLED = 0x1ff;
const APIC_REQUESTED = APIC + 0x200;

/** The device's message-signalled interrupts, programmed by the puppet. */
class Messages {
  private constructor(private readonly puppet: Puppet, private readonly entry: number) {}

  /** Gives queue 0 of the device vector 1, masked, and switches the APIC on. */
  static async setUp(puppet: Puppet, slot: number): Promise<Messages> {
    const config = (offset: number) => readPci(puppet, slot, offset);
    const low = await config(PCI_BAR0);
    const base = ((low & ~0xf) >>> 0) + ((low & 4) === 0 ? 0 : await config(PCI_BAR0 + 4) * 2 ** 32);
    let common = 0;
    let table = 0;
    for (let at = (await config(PCI_CAPABILITIES)) & 0xfc; at !== 0;) {
      const head = await config(at);
      if ((head & 0xff) === CAP_VENDOR && head >>> 24 === CFG_COMMON) common = base + await config(at + 8);
      if ((head & 0xff) === CAP_MSIX) table = base + ((await config(at + 4)) & ~7);
      at = (head >>> 8) & 0xfc;
    }
    const registers = await puppet.map(common);
    await puppet.run(
      ["writew", registers + COMMON_QUEUE_SELECT, 0],
      ["writew", registers + COMMON_QUEUE_VECTOR, VECTOR],
      ["writel", APIC_SPURIOUS, APIC_ENABLED],
    );
    return new Messages(puppet, table + 16 * VECTOR);
  }

  async write(data: number, masked: boolean): Promise<void> {
    const at = await this.puppet.map(this.entry);
    await this.puppet.run(
      ["writel", at, APIC],
      ["writel", at + 4, 0],
      ["writel", at + 8, data],
      ["writel", at + 12, masked ? 1 : 0],
    );
  }

  /** True if the APIC holds a request for `vector`; the puppet never serves one. */
  async requested(vector: number): Promise<boolean> {
    const [word] = await this.puppet.run(["readl", APIC_REQUESTED + 16 * (vector >> 5)]);
    return (word >>> (vector & 31) & 1) === 1;
  }
}

/** How often the VMM's thread `io0` went to sleep. */
async function sleeps(vm: Vm): Promise<number> {
  for await (const { name } of Deno.readDir(`/proc/${vm.pid}/task`)) {
    const status = await Deno.readTextFile(`/proc/${vm.pid}/task/${name}/status`);
    if (/^Name:\s+io0$/m.test(status)) return Number(/^voluntary_ctxt_switches:\s+(\d+)$/m.exec(status)![1]);
  }
  throw new Error("No thread io0");
}

betterTest(
  "a back-end's interrupts follow the driver's vectors, and need no thread of the VMM",
  "takes a queue's vector when the driver starts the device, and keeps it",
  async (test) => {
    await using disk = await TempDisk.pattern(MIB);
    await using puppet = await Puppet.make();
    const socket = join(puppet.directory, "disk.sock");
    await using _daemon = await Daemon.storage(socket, disk.path);
    await using vm = await startVm({ args: [...puppet.args(), "--disk", `vhost_user=on,socket=${socket}`] });
    await puppet.started();
    const driver = await VirtioDriver.start(new DriverMemory(puppet), BLOCK);
    const messages = await Messages.setUp(puppet, driver.slot);
    const read = async () => {
      const header = new Uint8Array(16);
      await driver.queues[0].submit({ send: header }, { receive: SECTOR }, { receive: 1 });
      await driver.notify(0);
      await driver.queues[0].complete();
    };
    const arrives = (vector: number) => eventually(`vector ${vector}`, () => messages.requested(vector));

    await test.step("the first vector", async () => {
      await messages.write(0x51, false);
      await read();
      await arrives(0x51);
    });
    await test.step("another message while nothing is due", async () => {
      await messages.write(0x51, true);
      await messages.write(0x62, false);
      await read();
      await arrives(0x62);
    });
    await test.step("a request that ends while the vector is masked", async () => {
      await messages.write(0x62, true);
      await read();
      await messages.write(0x73, true);
      assert.equal(await messages.requested(0x73), false);
      await messages.write(0x73, false);
      await arrives(0x73);
    });
    await test.step("the VMM's I/O thread sleeps through requests and their interrupts", async () => {
      await read(); // what the vCPU changed is settled
      const before = await sleeps(vm);
      for (let i = 0; i < REQUESTS; i++) await read();
      assert.ok(await sleeps(vm) - before < REQUESTS / 4);
    });
    await test.step("after a reset of the device", async () => {
      await driver.restart();
      const again = await Messages.setUp(puppet, driver.slot);
      await again.write(0x84, false);
      await read();
      await arrives(0x84);
    });
  },
  { commands: ["qemu-storage-daemon"] },
);

/**
 * PCI as a guest finds it: slots, segments, moved BARs; pvpanic, entropy, network features, SMBIOS. By a puppet, on both
 * programs.
 *
 * The names in front are those of the original's own tests (docs/upstream-tests.md).
 */
import assert from "node:assert/strict";
import { eventually } from "@tests/framework/deadline.ts";
import { TempDisk } from "@tests/framework/images.ts";
import { NetworkNamespace } from "@tests/framework/netns.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { DriverMemory, readPci, VirtioDriver, writePci } from "@tests/framework/virtio_driver.ts";
import { guestTest, IS_REFERENCE, startVm } from "./subject.ts";

const MIB = 1 << 20;
const NET = 1;
const RNG = 4;
const NOTHING = 0xffff_ffff;
const BLOCK_ID = 0x1042_1af4;
const NET_ID = 0x1041_1af4;
const RNG_ID = 0x1044_1af4;
const CONSOLE_ID = 0x1043_1af4;
const PVPANIC_ID = 0x0011_1b36;
const BAR0 = 0x10;
const COMMAND = 4;
const MMCONFIG = 0xe800_0000;
const MMCONFIG_SEGMENT_BYTES = MIB;

/** Notifies until a request is answered: the original loses a notification now and then. */
async function finished(driver: VirtioDriver, queue: number): Promise<void> {
  await driver.notify(queue);
  await eventually(`an answer on queue ${queue}`, async () => {
    const completion = await driver.queues[queue].poll();
    if (completion === undefined) await driver.notify(queue);
    return completion;
  });
}

/** Identities of all slots that answer. */
async function slots(puppet: Puppet): Promise<Record<number, number>> {
  const found: Record<number, number> = {};
  for (let slot = 0; slot < 32; slot++) {
    const id = await readPci(puppet, slot, 0);
    if (id !== NOTHING) found[slot] = id;
  }
  return found;
}

guestTest("test_pci_device_id: devices lie where they are told, the others where there is room", async () => {
  await using disk = await TempDisk.empty(MIB);
  await using puppet = await Puppet.make();
  await using vm = await startVm({
    args: [
      ...puppet.args().map((arg, i, all) => all[i - 1] === "--console" ? "null,pci_device_id=7" : arg),
      ...["--rng", "src=/dev/urandom"],
      ...["--disk", `path=${disk.path},image_type=raw,pci_device_id=9`],
    ],
  });
  await puppet.started();
  const { 0: bridge, ...devices } = await slots(puppet);
  assert.equal((await readPci(puppet, 0, 8)) >>> 8, 0x06_0000, "class of the host bridge");
  assert.ok(bridge !== undefined);
  assert.deepEqual(devices, { 1: RNG_ID, 7: CONSOLE_ID, 9: BLOCK_ID });
  const answer = await vm.api.put("vm.add-disk", {
    path: disk.path,
    image_type: "Raw",
    readonly: true,
    pci_device_id: 9,
  });
  assert.notEqual(answer.status, 200);
});

const REFUSED: Record<string, { args: string[]; message: RegExp }> = {
  "test_duplicate_pci_device_id": {
    args: ["--rng", "src=/dev/urandom,pci_device_id=5", "--balloon", "size=0,pci_device_id=5"],
    message: /Valid PCI device identifier but already used: 5/,
  },
  "test_invalid_pci_device_id: beyond the bus": {
    args: ["--rng", "src=/dev/urandom,pci_device_id=188"],
    message: /Given PCI device ID \(188\) is out of the supported range of 0\.\.32/,
  },
  "test_invalid_pci_device_id: the host bridge's": {
    args: ["--rng", "src=/dev/urandom,pci_device_id=0"],
    message: /Given PCI device ID \(0\) is reserved/,
  },
};

for (const [name, { args, message }] of Object.entries(REFUSED)) {
  guestTest(name, async () => {
    await using puppet = await Puppet.make();
    await using vm = await startVm({ api: false, args: [...puppet.args(), ...args] });
    assert.deepEqual(await vm.waitForExit(), { code: 1, signal: null });
    assert.match(vm.stderr.text, message);
  });
}

guestTest("test_pci_multiple_segments: 96 of them, a disk on the last", async () => {
  await using disk = await TempDisk.empty(MIB);
  await using puppet = await Puppet.make();
  const segments = 96;
  await using vm = await startVm({
    args: [
      ...puppet.args(),
      ...["--platform", `num_pci_segments=${segments}`],
      ...["--disk", `id=d,path=${disk.path},image_type=raw,pci_segment=${segments - 1}`],
    ],
  });
  await puppet.started();
  // No host bridge there: the first device has the first slot.
  const at = await puppet.map(MMCONFIG + (segments - 1) * MMCONFIG_SEGMENT_BYTES);
  assert.deepEqual(await puppet.run(["readl", at], ["readl", at + 0x8000]), [BLOCK_ID, NOTHING]);
  assert.ok((await vm.api.info()).device_tree.d);
});

guestTest("test_pci_bar_reprogramming: a device works where its BAR was moved to", async () => {
  await using puppet = await Puppet.make();
  await using _vm = await startVm({ args: [...puppet.args(), "--rng", "src=/dev/urandom"] });
  await puppet.started();
  const memory = new DriverMemory(puppet);
  const before = await VirtioDriver.start(memory, RNG);
  const { slot } = before;
  const low = await readPci(puppet, slot, BAR0);
  assert.equal(low & 6, 4, "a 64-bit BAR");
  const command = await readPci(puppet, slot, COMMAND);
  const size = 0x8_0000;
  await writePci(puppet, slot, COMMAND, command & ~2);
  await writePci(puppet, slot, BAR0, ((low & ~0xf) + 4 * size) >>> 0);
  await writePci(puppet, slot, BAR0 + 4, await readPci(puppet, slot, BAR0 + 4));
  await writePci(puppet, slot, COMMAND, command | 2);
  assert.equal((await readPci(puppet, slot, BAR0)) >>> 0, (low + 4 * size) >>> 0);
  const driver = await VirtioDriver.start(memory, RNG);
  const { addresses } = await driver.queues[0].submit({ receive: 64 });
  await driver.notify(0);
  assert.ok((await driver.queues[0].complete()).writtenBytes > 0);
  assert.ok((await puppet.readMemory(addresses[0], 64)).some((byte) => byte !== 0));
});

guestTest("test_pvpanic: what the guest's panic handler writes becomes an event", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: [...puppet.args(), "--pvpanic"], events: true });
  await puppet.started();
  const [slot] = Object.entries(await slots(puppet)).find(([, id]) => id === PVPANIC_ID)!;
  const bar = ((await readPci(puppet, Number(slot), BAR0)) & ~0xf) >>> 0;
  const at = await puppet.map(bar);
  assert.deepEqual(await puppet.run(["readb", at], ["writeb", at, 1]), [3, 0]);
  const { properties } = await vm.events.waitFor("guest/panic");
  assert.deepEqual(properties, { event: "panic" });
  assert.equal((await vm.api.info()).state, "Running");
});

guestTest("test_virtio_net_ctrl_queue, _counters: what a network device offers", async () => {
  await using network = await NetworkNamespace.create();
  await using puppet = await Puppet.make();
  await using vm = await startVm({
    netns: network.name,
    args: [
      ...puppet.args(),
      ...["--cpus", "boot=2"],
      ...[
        "--net",
        "id=n,tap=,mac=2e:00:00:00:00:07,ip=10.9.8.1,mask=255.255.255.0,mtu=3000,num_queues=4,queue_size=128",
      ],
    ],
  });
  await puppet.started();
  const driver = await VirtioDriver.start(new DriverMemory(puppet), NET);
  const offers = (bit: number) => (driver.features >> BigInt(bit) & 1n) === 1n;
  // Checksums, MTU, MAC, segmentation both ways, status, control queue, announce, several queues.
  for (const bit of [0, 1, 2, 3, 5, 7, 8, 11, 12, 16, 17, 21, 22]) assert.ok(offers(bit), `feature ${bit}`);
  assert.deepEqual(driver.queues.map(({ maxSize }) => maxSize), [128, 128, 128, 128, 128]);
  const words = [await driver.readConfig(0), await driver.readConfig(4), await driver.readConfig(8)];
  assert.deepEqual(words, [0x2e, 0x0001_0700, (3000 << 16) + 2]);
  // Orders: two pairs, one pair, no such class.
  const order = async (...bytes: number[]) => {
    const { addresses } = await driver.queues[4].submit(
      { send: Uint8Array.from(bytes.slice(0, 2)) },
      { send: Uint8Array.from(bytes.slice(2)) },
      { receive: 1 },
    );
    await finished(driver, 4);
    return (await puppet.readMemory(addresses[2], 1))[0];
  };
  assert.deepEqual([await order(4, 0, 2, 0), await order(4, 0, 1, 0)], [0, 0]);
  if (!IS_REFERENCE) assert.equal(await order(99, 0, 0, 0), 1); // the original dies of it
  const frame = new Uint8Array(12 + 60);
  frame.fill(0xff, 12, 24);
  const counters = async () =>
    (await vm.api.get("vm.counters")).json<Record<string, Record<string, number>>>().n;
  const before = await counters();
  for (let i = 0; i < 3; i++) {
    await driver.queues[1].submit({ send: frame });
    await finished(driver, 1);
  }
  const after = await counters();
  assert.deepEqual([after.tx_frames - before.tx_frames, after.tx_bytes - before.tx_bytes], [3, 3 * 60]);
  assert.match(await network.exec("ip", "-o", "link"), /mtu 3000/);
  assert.match(await network.exec("ip", "-o", "-4", "address"), /10\.9\.8\.1\/24/);
}, { root: true, commands: ["ip"] });

guestTest("test_multiple_network_interfaces: a tap of its own and a named one, which stays", async () => {
  await using network = await NetworkNamespace.create();
  await network.addTap("mytap1");
  await using puppet = await Puppet.make();
  await using vm = await startVm({
    netns: network.name,
    args: [...puppet.args(), "--net", "tap=,mac=2e:00:00:00:00:01", "tap=mytap1,mac=2e:00:00:00:00:02"],
  });
  await puppet.started();
  assert.deepEqual(Object.values(await slots(puppet)).filter((id) => id === NET_ID).length, 2);
  assert.match(await network.exec("ip", "-o", "link"), /vmtap0/);
  await vm.stop();
  const left = await network.exec("ip", "-o", "link");
  assert.ok(/mytap1/.test(left) && !/vmtap0/.test(left), left);
}, { root: true, commands: ["ip"] });

guestTest(
  "test_dmi_serial_number, _uuid, _oem_strings, _system_and_chassis: strings in guest memory",
  async () => {
    await using puppet = await Puppet.make();
    const strings = [
      "serial=a=b;c=d",
      "Maker of machines",
      "Machine",
      "v 1",
      "Family",
      "SKU-9",
      "tag 77",
      "first-oem",
      "second-oem",
    ];
    const [serial, maker, product, version, family, sku, tag, ...oem] = strings;
    await using _vm = await startVm({
      args: [
        ...puppet.args(),
        "--platform",
        [
          `serial_number="${serial}"`,
          "uuid=00112233-4455-6677-8899-aabbccddeeff",
          `system_manufacturer="${maker}"`,
          `system_product_name=${product}`,
          `system_version="${version}"`,
          `system_family=${family}`,
          `system_sku_number=${sku}`,
          `chassis_asset_tag="${tag}"`,
          `oem_strings=[${oem.join(",")}]`,
        ].join(","),
      ],
    });
    await puppet.started();
    const bytes = await puppet.readMemory(0xf_0000, 0x1_0000);
    const text = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
    assert.ok(text.includes("_SM3_"));
    for (const string of strings) assert.ok(text.includes(`${string}\0`), string);
    // The first three fields are little-endian.
    assert.ok(text.includes("\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa\xbb\xcc\xdd\xee\xff"), "the UUID");
  },
);

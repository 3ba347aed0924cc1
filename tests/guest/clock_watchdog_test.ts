/** The virtio clock and the watchdog, driven register by register: the kernel of the test guest has no drivers for them. */
import assert from "node:assert/strict";
import { Puppet } from "@tests/framework/puppet.ts";
import { DriverMemory, VirtioDriver } from "@tests/framework/virtio_driver.ts";
import { guestTest, startVm } from "./subject.ts";

const RTC = 17;
const WATCHDOG = 35;
const V1 = 1n << 32n;
const NS_PER_MS = 1_000_000n;

/** A clock request of 16 bytes. */
function clockRequest(type: number, clock = 0): Uint8Array {
  const words = new Uint16Array(8);
  words[0] = type;
  words[4] = clock;
  return new Uint8Array(words.buffer);
}

guestTest("the clock tells the host's time", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: [...puppet.args(), "--rtc", "id=clock"] });
  await puppet.started();
  const driver = await VirtioDriver.start(new DriverMemory(puppet), RTC);
  assert.deepEqual([driver.features, driver.queues.map(({ maxSize }) => maxSize)], [V1, [256]]);
  const [queue] = driver.queues;
  const ask = async (request: Uint8Array) => {
    const { addresses } = await queue.submit({ send: request }, { receive: 16 });
    await driver.notify(0);
    const { writtenBytes } = await queue.complete();
    const bytes = await puppet.readMemory(addresses[1], 16);
    return { writtenBytes, bytes: new DataView(bytes.buffer) };
  };
  const config = await ask(clockRequest(0x1000));
  assert.deepEqual([config.writtenBytes, config.bytes.getUint8(0), config.bytes.getUint16(8, true)], [
    16,
    0,
    1,
  ]);
  const capability = await ask(clockRequest(0x1001));
  assert.deepEqual([capability.writtenBytes, capability.bytes.getUint32(8, true)], [16, 4]);
  const before = BigInt(Date.now()) * NS_PER_MS;
  const reading = (await ask(clockRequest(1))).bytes.getBigUint64(8, true);
  const after = BigInt(Date.now() + 1) * NS_PER_MS;
  assert.ok(before <= reading && reading <= after, `${before} <= ${reading} <= ${after}`);
  assert.deepEqual((await ask(clockRequest(1, 5))).bytes.getUint8(0), 3);
  const unknown = await ask(clockRequest(0x1003));
  assert.deepEqual([unknown.writtenBytes, unknown.bytes.getUint8(0)], [8, 2]);
  assert.ok((await vm.api.info()).device_tree["_virtio-pci-clock"]);
});

guestTest("the watchdog resets a guest that has stopped pinging, also after a pause", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: [...puppet.args(), "--watchdog"], events: true });
  await puppet.started();
  const driver = await VirtioDriver.start(new DriverMemory(puppet), WATCHDOG);
  assert.deepEqual([driver.features, driver.queues.map(({ maxSize }) => maxSize)], [V1, [8]]);
  const { addresses } = await driver.queues[0].submit({ receive: 4 });
  await driver.notify(0);
  assert.equal((await driver.queues[0].complete()).writtenBytes, 4);
  assert.deepEqual([...await puppet.readMemory(addresses[0], 4)], [1, 0, 0, 0]);
  await vm.api.mustPut("vm.pause");
  await vm.api.mustPut("vm.resume");
  await vm.events.waitFor("vm/rebooted", { timeoutMs: 60_000 });
  await puppet.started(2);
});

/** The balloon: memory the guest gives up leaves the host, and comes back when it is wanted. */
import assert from "node:assert/strict";
import { Puppet } from "@tests/framework/puppet.ts";
import { DriverMemory, NEEDS_RESET, VirtioDriver } from "@tests/framework/virtio_driver.ts";
import { guestTest, startVm } from "./subject.ts";

const BALLOON = 5;
const MIB = 1 << 20;
const PAGE = 4096;
const NUM_PAGES = 0;
const ACTUAL = 4;

/** Page numbers as the driver sends them. */
const pages = (...numbers: number[]) => ({ send: new Uint8Array(new Uint32Array(numbers).buffer) });

/** The numbers of `count` pages from `gpa` on. */
const pagesAt = (gpa: number, count: number) => Array.from({ length: count }, (_, i) => gpa / PAGE + i);

guestTest("inflating and reporting punch holes into the file of shared memory", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({
    args: [...puppet.args(), "--balloon", "size=8M,deflate_on_oom=on,free_page_reporting=on"],
  });
  await puppet.started();
  const driver = await VirtioDriver.start(new DriverMemory(puppet), BALLOON);
  assert.equal(driver.features, 1n << 32n | 1n << 5n | 1n << 2n);
  assert.deepEqual(driver.queues.map(({ maxSize }) => maxSize), [128, 128, 32]);
  const [inflate, deflate, reporting] = driver.queues;
  const blocks = async () => (await Deno.stat(puppet.memoryPath)).blocks!;
  const fill = async (gpa: number, count: number) =>
    await puppet.writeMemory(gpa, new Uint8Array(count * PAGE).fill(0x5a));
  const read = async (gpa: number, count: number) => {
    const bytes = await puppet.readMemory(gpa, count * PAGE);
    return Array.from({ length: count }, (_, i) => bytes[i * PAGE]);
  };

  await fill(32 * MIB, 300);
  const filled = await blocks();
  const numbers = pagesAt(32 * MIB + PAGE, 256);
  await inflate.submit(pages(...numbers.slice(0, 200).reverse()), pages(...numbers.slice(200)));
  await driver.notify(0);
  assert.equal((await inflate.complete()).writtenBytes, 0);
  assert.deepEqual(await read(32 * MIB, 300), [0x5a, ...Array(256).fill(0), ...Array(43).fill(0x5a)]);
  assert.ok(await blocks() <= filled - 250 * PAGE / 512);

  await deflate.submit(pages(...numbers));
  await driver.notify(1);
  await deflate.complete();

  const { addresses } = await reporting.submit({ receive: 64 * PAGE });
  await fill(addresses[0], 65);
  await driver.notify(2);
  assert.equal((await reporting.complete()).writtenBytes, 64 * PAGE);
  assert.deepEqual(await read(addresses[0], 65), [...Array(64).fill(0), 0x5a]);

  await inflate.submit(pages(0xffff_ffff, 0xf000_0000 / PAGE, 0), pages(...Array(257).fill(1)), {
    receive: 64,
  });
  await driver.notify(0);
  await inflate.complete();
  assert.equal(await driver.status() & NEEDS_RESET, 0);
  await vm.stop();
});

guestTest("the balloon's target and its actual size go through the configuration", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: [...puppet.args(), "--balloon", "size=8M"] });
  await puppet.started();
  const driver = await VirtioDriver.start(new DriverMemory(puppet), BALLOON);
  assert.equal(driver.features, 1n << 32n);
  assert.deepEqual([await driver.readConfig(NUM_PAGES), await driver.readConfig(ACTUAL)], [
    8 * MIB / PAGE,
    0,
  ]);
  const actualSize = async () => (await vm.api.info()).memory_actual_size;
  assert.equal(await actualSize(), 64 * MIB);
  await driver.writeConfig(NUM_PAGES, 77);
  await driver.writeConfig(ACTUAL, 3 * MIB / PAGE);
  assert.deepEqual([await driver.readConfig(NUM_PAGES), await driver.readConfig(ACTUAL)], [
    8 * MIB / PAGE,
    3 * MIB / PAGE,
  ]);
  assert.equal(await actualSize(), 61 * MIB);
  await vm.api.mustPut("vm.resize", { desired_balloon: 5 * PAGE + 1 });
  assert.equal(await driver.readConfig(NUM_PAGES), 5);
  assert.equal((await vm.api.info()).config.balloon.size, 5 * PAGE + 1);
  await driver.writeConfig(ACTUAL, 1000 * MIB / PAGE);
  assert.equal(await actualSize(), 0);
});

guestTest("resizing a balloon that is not there is refused", async () => {
  await using puppet = await Puppet.make();
  await using vm = await startVm({ args: puppet.args() });
  await puppet.started();
  const { status, body } = await vm.api.put("vm.resize", { desired_balloon: 4096 });
  assert.equal(status, 500);
  assert.deepEqual(JSON.parse(body), [
    "Error from API",
    "The VM could not be resized",
    "Error from device manager",
    "Missing virtio-balloon, can't proceed as expected",
  ]);
});

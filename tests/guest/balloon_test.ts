/** The balloon: memory the guest gives up leaves the host, and comes back when it is wanted. */
import assert from "node:assert/strict";
import { BOOT_TIMEOUT_MS, eventually } from "@tests/framework/deadline.ts";
import { guestFiles, kernelCommandLine } from "@tests/framework/guest.ts";
import { Puppet } from "@tests/framework/puppet.ts";
import { Pty } from "@tests/framework/pty.ts";
import { DriverMemory, NEEDS_RESET, VirtioDriver } from "@tests/framework/virtio_driver.ts";
import { guestTest, linuxTest, startVm } from "./subject.ts";

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

linuxTest("a Linux guest reports free pages, inflates, and deflates when it runs out of memory", async () => {
  const { vmlinux, initramfs } = await guestFiles();
  await using vm = await startVm({ events: true });
  await vm.api.mustPut("vm.create", {
    payload: { kernel: vmlinux, initramfs, cmdline: kernelCommandLine("hvc0") },
    memory: { size: 256 * MIB, thp: false, prefault: true },
    serial: { mode: "Off" },
    console: { mode: "Pty" },
    balloon: { size: 0, deflate_on_oom: true, free_page_reporting: true },
  });
  await vm.api.mustPut("vm.boot");
  await using pty = await Pty.open((await vm.api.info()).config.console.file);
  await pty.expect("nephos:", BOOT_TIMEOUT_MS);
  const residentMib = async () => await vm.memoryKib("Rss") / 1024;
  const actualMib = async () => (await vm.api.info()).memory_actual_size / MIB;
  // Linux reports blocks of 4 MiB, and only while more than 128 MiB are free.
  await eventually(
    "100 MiB of free pages to be returned",
    async () => await residentMib() < 156,
    BOOT_TIMEOUT_MS,
  );

  const resize = async (balloonMib: number) => {
    await vm.api.mustPut("vm.resize", { desired_balloon: balloonMib * MIB });
    const what = `${balloonMib} MiB in the balloon`;
    await eventually(what, async () => await actualMib() === 256 - balloonMib, BOOT_TIMEOUT_MS);
  };
  await resize(32);
  await resize(0);
  await resize(200);
  await pty.send("mkdir -p /dev/shm; mount -t tmpfs -o size=90% tmpfs /dev/shm; echo mounted $?\n");
  await pty.expect("mounted 0\n", BOOT_TIMEOUT_MS);
  await pty.send('dd if=/dev/zero of=/dev/shm/x bs=1M count=40 && echo "us"ed\n');
  await pty.expect("used\n", BOOT_TIMEOUT_MS);
  assert.ok(await actualMib() > 56, `${await actualMib()} MiB`);
});

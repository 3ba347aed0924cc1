/** The balloon under Linux: free pages return to the host, the guest gives memory up, and takes it back when it runs out. */
import assert from "node:assert/strict";
import { BOOT_TIMEOUT_MS, eventually } from "@tests/framework/deadline.ts";
import { LinuxGuest } from "./linux_guest.ts";
import { linuxTest } from "./subject.ts";

const MIB = 1 << 20;
const MEMORY_MIB = 256;
const BALLOON_MIB = 200;
/** More than is left beside the balloon. */
const WANTED_MIB = 30;

linuxTest("a Linux guest reports free pages, inflates, and deflates when it runs out of memory", async () => {
  await using guest = await LinuxGuest.boot({
    config: {
      memory: { size: MEMORY_MIB * MIB, thp: false, prefault: true },
      balloon: { size: 0, deflate_on_oom: true, free_page_reporting: true },
    },
    script: `
      wait_for balloon
      mount -t tmpfs -o size=90% none /mnt || echo failed
      dd if=/dev/zero of=/mnt/x bs=1M count=${WANTED_MIB} 2>/dev/null || echo failed
      wait_for end`,
  });
  const { vm } = guest;
  const residentMib = async () => await vm.memoryKib("Rss") / 1024;
  const actualMib = async () => (await vm.api.info()).memory_actual_size / MIB;
  const before = await residentMib();
  assert.ok(before >= MEMORY_MIB, `${before} MiB`);

  await guest.at("balloon", async () => {
    // Linux reports blocks of 4 MiB, and only while more than 128 MiB are free.
    await eventually(
      "100 MiB of free pages to be returned",
      async () => await residentMib() < before - 100,
      BOOT_TIMEOUT_MS,
    );
    await vm.api.mustPut("vm.resize", { desired_balloon: BALLOON_MIB * MIB });
    await eventually(
      `${BALLOON_MIB} MiB in the balloon`,
      async () => await actualMib() === MEMORY_MIB - BALLOON_MIB,
      BOOT_TIMEOUT_MS,
    );
  });
  const { text } = await guest.at("end", async () => {
    assert.ok(await actualMib() > MEMORY_MIB - BALLOON_MIB, `${await actualMib()} MiB`);
  });
  assert.doesNotMatch(text, /failed/);
  assert.deepEqual((await guest.end()).exit, { code: 0, signal: null });
});

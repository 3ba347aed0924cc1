/**
 * Several VMMs in this process, one after another and side by side; fails unless what they held comes back.
 *
 * Run by `embedding_test.ts`: `embedding_rounds.ts <kernel> <disk> <socket>`. A process of its own, because a test runner has
 * descriptors and threads of its own.
 */
import { eventually } from "@tests/framework/deadline.ts";
import { Vmm } from "@vmm/embed/vmm.ts";

const [kernel, disk, apiSocket] = Deno.args;
const ROUNDS = 6;
const POLLS_AT_REST = 30;

/** One life of a VM. */
async function live(round: number, socket?: string): Promise<void> {
  await using vmm = await Vmm.start({
    apiSocket: socket,
    dialect: round % 2 === 0 ? "nephos" : "cloud-hypervisor",
  });
  await vmm.create({
    payload: { kernel },
    memory: { size: 64n << 20n },
    cpus: { boot_vcpus: 2, max_vcpus: 2 },
    disks: [{ path: disk, image_type: "Raw", readonly: true }],
    serial: { mode: "Pty" },
    console: { mode: "Off" },
  });
  await vmm.boot();
  if (round % 3 === 0) await vmm.reboot();
  await vmm.pause();
}

/** Descriptors but those of Deno's own caches, and threads. */
function held(): { descriptors: number; threads: number } {
  const targets = [...Deno.readDirSync("/proc/self/fd")].map(({ name }) => {
    try {
      return Deno.readLinkSync(`/proc/self/fd/${name}`);
    } catch {
      return ""; // the one that lists them
    }
  });
  const descriptors = targets.filter((target) => target !== "" && !target.includes("_cache_")).length;
  return { descriptors, threads: [...Deno.readDirSync("/proc/self/task")].length };
}

/** What is held when nothing changes any more: threads end a moment after their VMM, and not all at once. */
async function heldAtRest(): Promise<ReturnType<typeof held>> {
  let last = held();
  let unchanged = 0;
  await eventually(() => `Rest; there are ${JSON.stringify(last)}`, () => {
    const now = held();
    unchanged = now.descriptors === last.descriptors && now.threads === last.threads ? unchanged + 1 : 0;
    last = now;
    return unchanged === POLLS_AT_REST;
  });
  return last;
}

await live(0, apiSocket);
await live(1, apiSocket);
const first = await heldAtRest();
for (let round = 0; round < ROUNDS; round++) {
  await live(round, apiSocket);
  await Promise.all([live(round), live(round + 1)]);
}
await eventually(
  () => `${JSON.stringify(first)}, but ${JSON.stringify(held())}`,
  () => held().descriptors <= first.descriptors && held().threads <= first.threads,
);
console.log("all given back");

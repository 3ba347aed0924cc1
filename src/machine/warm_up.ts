/**
 * What the first VM would otherwise wait for, done while nobody waits.
 *
 * L5, main isolate. Isolates for one vCPU and one I/O Worker, KVM and the instruction probe, then a rehearsal: the smallest
 * machine there is runs one instruction and goes. It loads and compiles all code on the way, in main and in the Workers,
 * which are there for the first VM afterwards. Requests get their turn between the steps.
 */
import { close, memfd } from "@ffi/libc/fd.ts";
import { pwrite } from "@ffi/libc/file_io.ts";
import type { VmConfig } from "@schemas/api/vm_config.ts";
import { pvhElf } from "@vmm/arch/x86_64/loader/tiny_elf.ts";
import { kvmHost } from "./kvm_host.ts";
import { KvmVmFactory } from "./vm_factory.ts";
import { prewarm } from "./worker_pool.ts";
import { IDLE_THREAD_NAME } from "./worker_serve.ts";

/** `cli; hlt`: the vCPU waits in the kernel until it is stopped. */
const REHEARSAL_CODE = Uint8Array.of(0xfa, 0xf4);

/** The body of the `vm.create` that is rehearsed, as a client sends it. */
function rehearsalBody(kernel: string): string {
  return JSON.stringify({
    cpus: { boot_vcpus: 1, max_vcpus: 1, core_scheduling: "Off" },
    memory: { size: 8 << 20 },
    payload: { kernel },
    serial: { mode: "Null" },
    console: { mode: "Off" },
  });
}

/** Gives the event loop a turn. */
const turn = () => new Promise((resolve) => setTimeout(resolve, 0));

/** Starts the Workers; cheap for main, they load their code by themselves. */
export async function warmWorkers(): Promise<void> {
  prewarm("vcpu");
  await turn();
  prewarm("io");
  await turn();
}

/**
 * Runs a machine through its whole life.
 *
 * @param configure what the API makes of a `vm.create` body
 * @throws what a boot throws on this host
 */
export async function rehearse(configure: (body: string) => VmConfig): Promise<void> {
  kvmHost();
  await turn();
  const kernel = memfd("rehearsal");
  try {
    pwrite(kernel, pvhElf(REHEARSAL_CODE), 0);
    // Management programs tell a VM's vCPUs by the names of their threads.
    const factory = new KvmVmFactory(() => IDLE_THREAD_NAME);
    const config = await factory.prepareConsoles(configure(rehearsalBody(`/proc/self/fd/${kernel}`)));
    await turn();
    const vm = await factory.create(config, () => {});
    await turn();
    await vm.boot().finally(() => vm.shutdown());
    await factory.releaseConsoles();
  } finally {
    close(kernel);
  }
}

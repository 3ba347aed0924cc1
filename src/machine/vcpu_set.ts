/**
 * All vCPUs of a VM.
 *
 * L5, main isolate. vCPUs are made and set up here, run in their Workers, and stop, pause and resume together.
 */
import { close } from "@ffi/libc/fd.ts";
import type { CpusConfig } from "@schemas/api/cpus.ts";
import type { BootEntry } from "@vmm/arch/x86_64/boot_cpu.ts";
import { commonCpuid, cpuVendor } from "@vmm/arch/x86_64/cpuid.ts";
import { vcpuCpuid } from "@vmm/arch/x86_64/cpuid_vcpu.ts";
import { type CpuTopology, needsX2apicMode, x2apicId } from "@vmm/arch/x86_64/topology.ts";
import type { GuestEvent } from "@vmm/bus/ports.ts";
import type { CpuidEntry } from "@vmm/hypervisor/kvm/cpuid_entry.ts";
import { KvmVcpu } from "@vmm/hypervisor/kvm/vcpu.ts";
import type { KvmVm } from "@vmm/hypervisor/kvm/vm.ts";
import { CoreSchedulingBlock } from "./core_scheduling.ts";
import type { KvmHost } from "./kvm_host.ts";
import { VcpuThread } from "./vcpu_thread.ts";
import { enableX2apic, setUpBootProcessor, setUpVcpu } from "./vcpu_setup.ts";
import type { VcpuCommon, VcpuStart } from "./vcpu_worker.ts";
import { retireWorker } from "./worker_pool.ts";
import type { WorkerPort } from "./worker_port.ts";

/** Names the thread of a vCPU: management programs look for these to bind and to count them. */
export type VcpuThreadName = (index: number) => string;

/** As the original names them. */
export const vcpuThreadName: VcpuThreadName = (index) => `vcpu${index}`;

/** The vCPUs. */
export class VcpuSet {
  readonly threads: VcpuThread[] = [];
  readonly #common: readonly CpuidEntry[];
  readonly #vcpus: KvmVcpu[] = [];

  /**
   * @param workers Workers on their way, one per boot vCPU
   * @param onEvent what guests make happen, from any vCPU
   */
  constructor(
    private readonly host: KvmHost,
    private readonly vm: KvmVm,
    private readonly config: CpusConfig,
    private readonly topology: CpuTopology,
    physBits: number,
    private readonly workers: Promise<WorkerPort>[],
    private readonly onEvent: (event: GuestEvent) => void,
    private readonly threadName: VcpuThreadName,
  ) {
    this.#common = commonCpuid(host.system.supportedCpuid(), host.cpuid, {
      physBits,
      amx: config.features.amx,
      kvmHyperv: config.kvm_hyperv,
      hiddenFeatures: host.hiddenFeatures.map(({ function: leaf, register, bit }) => ({
        function: leaf,
        index: 0,
        register,
        bits: 1 << bit,
      })),
    });
  }

  /** Makes and sets up the boot vCPUs. @throws OsError */
  create(entry: BootEntry): void {
    const x2apic = needsX2apicMode(this.config.max_vcpus, this.topology);
    for (let index = 0; index < this.config.boot_vcpus; index++) {
      const vcpu = this.#create(index);
      if (x2apic) enableX2apic(vcpu);
    }
    if (this.#vcpus.length > 0) setUpBootProcessor(this.#vcpus[0], entry);
  }

  #create(index: number): KvmVcpu {
    // KVM identifies a vCPU by its APIC id.
    const fd = this.vm.createVcpu(x2apicId(index, this.topology));
    let vcpu: KvmVcpu;
    try {
      vcpu = new KvmVcpu(index, fd, this.host.system.runPageBytes);
    } catch (error) {
      close(fd);
      throw error;
    }
    this.#vcpus.push(vcpu);
    const tscKhz = this.host.invariantTsc ? vcpu.tscKhz() : 0;
    setUpVcpu(
      vcpu,
      vcpuCpuid(this.#common, {
        cpu: index,
        topology: this.topology,
        vendor: cpuVendor(this.#common),
        nested: this.config.nested,
        kvmHyperv: this.config.kvm_hyperv,
        tscKhz: tscKhz > 0 ? tscKhz : undefined,
      }),
    );
    return vcpu;
  }

  /** Starts every vCPU in its Worker; each runs as soon as its Worker has built its machine. @throws WorkerError */
  async start(common: VcpuCommon): Promise<void> {
    const cores = CoreSchedulingBlock.create().buffer;
    const started = this.#vcpus.map(async (vcpu, i) => {
      const port = await this.workers[i];
      const thread = new VcpuThread(vcpu, port);
      this.threads.push(thread);
      port.onEvent = (event) => this.onEvent(event as GuestEvent);
      port.onDeath = (text) => this.onEvent({ kind: "fatal", text: `vcpu${i}: ${text}` });
      await port.call(
        "start",
        {
          ...common,
          index: i,
          name: this.threadName(i),
          vcpuFd: vcpu.fd,
          runPage: vcpu.runPage,
          runPageBytes: vcpu.runPageBytes,
          control: thread.control.buffer,
          affinity: this.config.affinity?.find((entry) => entry.vcpu === i)?.host_cpus,
          coreScheduling: this.config.core_scheduling,
          cores,
        } satisfies VcpuStart,
      );
    });
    for (const result of await Promise.allSettled(started)) {
      if (result.status === "rejected") throw result.reason;
    }
  }

  async pause(): Promise<void> {
    await Promise.all(this.threads.map((thread) => thread.pause()));
    for (const { vcpu } of this.threads) vcpu.notifyPaused();
  }

  async resume(): Promise<void> {
    await Promise.all(this.threads.map((thread) => thread.resume()));
  }

  /** Injects an NMI into every vCPU, from its own thread: the ioctl waits for KVM_RUN to return. @throws WorkerError */
  async nmi(): Promise<void> {
    await this.call("nmi", undefined);
  }

  /** Calls a method in every vCPU's Worker. */
  async call(method: string, payload: unknown): Promise<void> {
    await Promise.all(this.threads.map((thread) => thread.port.call(method, payload)));
  }

  /** Exits so far, by KVM exit reason. */
  exits(): Map<number, number> {
    const sums = new Map<number, number>();
    for (const thread of this.threads) {
      for (const [reason, count] of thread.exits()) sums.set(reason, (sums.get(reason) ?? 0) + count);
    }
    return sums;
  }

  /** Stops every vCPU for good and gives its Worker back, once. Never throws. */
  async stop(): Promise<void> {
    await Promise.all(this.threads.splice(0).map((thread) => thread.stop()));
    // A thread that was bound to host CPUs stays bound.
    const reusable = this.config.affinity === undefined;
    const workers = await Promise.allSettled(this.workers.splice(0));
    await Promise.all(
      workers.map((worker) =>
        worker.status === "fulfilled" ? retireWorker("vcpu", worker.value, reusable) : undefined
      ),
    );
  }

  /** Closes the vCPUs; after `stop`. */
  close(): void {
    for (const vcpu of this.#vcpus.splice(0)) vcpu.close();
  }
}

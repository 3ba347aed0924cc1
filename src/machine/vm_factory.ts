/**
 * Makes VMs from configurations.
 *
 * L5, main isolate.
 */
import { type CpuVendor, cpuVendor } from "@vmm/arch/x86_64/cpuid.ts";
import { monotonicNs, realtimeUs } from "@ffi/libc/clock.ts";
import { close, eventfd } from "@ffi/libc/fd.ts";
import type { VmConfig } from "@schemas/api/vm_config.ts";
import {
  guestPhysBits,
  KVM_IDENTITY_MAP_START,
  KVM_TSS_START,
  type MemoryPlan,
  planControllers,
  planSegments,
  RAM_64BIT_START,
} from "@vmm/arch/x86_64/layout.ts";
import type { ConnectedTpm } from "@vmm/backends/tpm/connect.ts";
import type { GuestEvent } from "@vmm/bus/ports.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import { KvmVm } from "@vmm/hypervisor/kvm/vm.ts";
import { Consoles } from "./consoles.ts";
import { segmentWeights, topologyOf } from "./firmware_tables.ts";
import { kvmHost } from "./kvm_host.ts";
import { checkMemory, checkNuma, releaseMemory, setUpMemory, type VmMemory } from "./memory_setup.ts";
import { MemoryWindows } from "./memory_windows.ts";
import { PciTopology } from "./pci_topology.ts";
import { VmIommu } from "./plug/iommu.ts";
import { plugTpm } from "./plug/tpm.ts";
import { connectVhostUsers, type VhostUserLinks } from "./plug/vhost_user.ts";
import { checkInitramfs } from "./payload_files.ts";
import { createPlatform, type PlatformRequest } from "./platform.ts";
import { VcpuSet, type VcpuThreadName, vcpuThreadName } from "./vcpu_set.ts";
import { Vm } from "./vm.ts";
import { VmDevices } from "./vm_devices.ts";
import type { VmFactory, VmInstance } from "./vm_port.ts";
import { returnWorkers, takeWorker } from "./worker_pool.ts";

/** The factory of real VMs. One per process; it holds the console back-ends of the stored configuration. */
export class KvmVmFactory implements VmFactory {
  #consoles: Consoles | undefined;
  #current: Vm | undefined;

  constructor(private readonly threadName: VcpuThreadName = vcpuThreadName) {}

  async prepareConsoles(config: VmConfig): Promise<VmConfig> {
    await this.releaseConsoles();
    this.#consoles = new Consoles(config);
    return this.#consoles.complete(config);
  }

  async releaseConsoles(): Promise<void> {
    this.#consoles?.close();
    this.#consoles = undefined;
  }

  /** The terminal's size changed (SIGWINCH). */
  async windowChanged(): Promise<void> {
    await this.#current?.windowChanged();
  }

  checkMemory(config: VmConfig): void {
    checkMemory(config.memory);
  }

  async create(config: VmConfig, onEvent: (event: GuestEvent) => void): Promise<VmInstance> {
    // Before any Worker is taken: there would be one for each vCPU.
    refuseTooManyVcpus(config.cpus.max_vcpus, kvmHost().maxVcpus);
    const ready = unsupportedDevices(config);
    if (ready !== undefined) throw ready;
    const links = await connectVhostUsers(config);
    const tpm = await plugTpm(config.tpm).catch((error) => {
      links.release();
      throw error;
    });
    // Workers start loading while memory and devices are set up.
    const ioWorker = takeWorker("io");
    const vcpuWorkers = Array.from({ length: config.cpus.boot_vcpus }, () => takeWorker("vcpu"));
    const taken: Taken = { links, tpm, ioWorker, vcpuWorkers };
    try {
      const consoles = this.#consoles ??= new Consoles(config);
      return this.#current = build(config, consoles, taken, this.threadName, onEvent);
    } catch (error) {
      links.release();
      tpm?.release();
      returnWorkers("io", [ioWorker]);
      returnWorkers("vcpu", vcpuWorkers);
      throw error;
    }
  }
}

/** What takes time to get, and is a VM's own from then on. */
interface Taken {
  readonly links: VhostUserLinks;
  readonly tpm: ConnectedTpm | undefined;
  readonly ioWorker: ReturnType<typeof takeWorker>;
  /** One per boot vCPU. */
  readonly vcpuWorkers: ReturnType<typeof takeWorker>[];
}

/** Puts a VM together; after an error what was `taken` is the caller's again. */
function build(
  config: VmConfig,
  consoles: Consoles,
  { links, tpm, ioWorker, vcpuWorkers }: Taken,
  threadName: VcpuThreadName,
  onEvent: (event: GuestEvent) => void,
): Vm {
  const host = kvmHost();
  const physBits = guestPhysBits(host.physBits, config.cpus.max_phys_bits);
  const vm = new KvmVm(host.system.createVm(), {
    identityMapGpa: KVM_IDENTITY_MAP_START,
    tssGpa: KVM_TSS_START,
  });
  let memory: VmMemory | undefined;
  let devices: VmDevices | undefined;
  let ioWakeFd = -1;
  try {
    memory = setUpMemory(config.memory, physBits, vm);
    const { plan } = memory;
    checkNuma(config.numa ?? [], plan);
    if (config.cpus.features.amx) refuseAmx(cpuVendor(host.system.supportedCpuid()));
    ioWakeFd = eventfd();
    const platform = createPlatform(platformRequest(config, plan, tpm !== undefined));
    platform.blocks.tpm.established = tpm?.established ? 1 : 0;
    const warn = (text: string) => onEvent({ kind: "log", level: "warn", key: text, text });
    const windows = new MemoryWindows(platform.apertures, vm, memory.slots);
    const iommu = VmIommu.of(config);
    devices = new VmDevices(config, new PciTopology(platform, vm, iommu), windows, warn, links, iommu);
    devices.createAll(consoles);
    if (config.payload?.initramfs !== undefined) checkInitramfs(config.payload.initramfs);
    const instance: { vm?: Vm } = {};
    const forward = (event: GuestEvent) => {
      if (event.kind === "pci-eject") void instance.vm?.ejected(event.segment, event.slots);
      if (event.kind === "iommu-fault") void instance.vm?.reportIommuFault(event);
      else onEvent(event);
    };
    const vcpus = new VcpuSet(
      host,
      vm,
      config.cpus,
      topologyOf(config.cpus),
      physBits,
      vcpuWorkers,
      forward,
      threadName,
    );
    instance.vm = new Vm({
      vm,
      memory,
      platform,
      devices,
      vcpus,
      consoles,
      ioWorker,
      ioWakeFd,
      tpm,
      onEvent: forward,
    });
    return instance.vm;
  } catch (error) {
    devices?.releaseAll();
    if (memory !== undefined) releaseMemory(memory);
    close(ioWakeFd);
    vm.close();
    throw error;
  }
}

const DEBUG_CONSOLE_PORT = 0xe9;

function platformRequest(config: VmConfig, plan: MemoryPlan, hasTpm: boolean): PlatformRequest {
  const lowRamBytes = plan.ramRegions.filter((region) => region.gpa < RAM_64BIT_START)
    .reduce((sum, region) => sum + region.sizeBytes, 0);
  return {
    controllers: planControllers(plan),
    segments: planSegments(plan, segmentWeights(config)),
    lowRamBytes,
    highRamBytes: plan.bootRamBytes - lowRamBytes,
    bootVcpus: config.cpus.boot_vcpus,
    maxVcpus: config.cpus.max_vcpus,
    hasSerial: config.serial.mode !== "Off",
    hasTpm,
    debugConsolePort: hasDebugConsole(config) ? config.debug_console.iobase ?? DEBUG_CONSOLE_PORT : undefined,
    time: { monotonicNs, realtimeUs },
  };
}

function hasDebugConsole(config: VmConfig): boolean {
  return config.debug_console.mode === "File" || config.debug_console.mode === "Tty";
}

/** @throws ContextError */
function refuseTooManyVcpus(wanted: number, limit: number): void {
  if (wanted <= limit) return;
  const reason = `Maximum number of vCPUs ${wanted} exceeds host limit ${limit}`;
  throw new ContextError(["Error from CPU manager"], new Error(reason));
}

/** Guests need the kernel's permission for matrix state, which is not asked for yet. @throws ContextError */
function refuseAmx(vendor: CpuVendor): never {
  const words = ["Error from CPU manager", "Error setting up AMX"] as const;
  if (vendor === "Intel") {
    throw new ContextError([...words], new Error("Not supported by this version yet: amx"));
  }
  throw new ContextError(
    [...words, "Failed to enable AMX tile state components"],
    new Error("The host CPU's vendor does not support AMX features. Only Intel provides such CPUs."),
  );
}

/** Configured things this version has no machinery for: a clear error instead of a guest without them. */
function unsupportedDevices(config: VmConfig): ContextError | undefined {
  const configured: Record<string, unknown> = {
    devices: config.devices?.length,
    user_devices: config.user_devices?.length,
    vdpa: config.vdpa?.length,
    gdb: config.gdb,
    "virtio-mem": config.memory.hotplug_method === "VirtioMem" && config.memory.hotplug_size !== undefined,
    landlock_enable: config.landlock_enable,
  };
  const missing = Object.entries(configured).filter(([, value]) =>
    value !== undefined && value !== false && value !== 0
  );
  if (missing.length === 0) return undefined;
  const names = missing.map(([name]) => name).join(", ");
  return new ContextError(
    ["Error from device manager"],
    new Error(`Not supported by this version yet: ${names}`),
  );
}

/**
 * Entry point of a vCPU Worker.
 *
 * L5. One isolate and OS thread per vCPU: `start` gives it the vCPU and the machine's descriptions, then it lives in the
 * exit loop and leaves it only for messages and to stop.
 */
import { KVM } from "@ffi/kvm/codes.ts";
import { ioctlValue } from "@ffi/kvm/ioctl.ts";
import { coreCookie } from "@ffi/libc/core_scheduling.ts";
import { wrap } from "@ffi/libc/mmap.ts";
import { armKick } from "@ffi/libc/signal.ts";
import { check } from "@ffi/libc/syscall.ts";
import { setAffinity, setThreadName, threadId } from "@ffi/libc/thread.ts";
import type { CpusConfig } from "@schemas/api/cpus.ts";
import type { GuestEvent } from "@vmm/bus/ports.ts";
import { VmFd } from "@vmm/hypervisor/kvm/vm.ts";
import { FwCfgBlock } from "@vmm/devices/fw_cfg/fw_cfg.ts";
import { CoreSchedulingBlock, hasHyperthreads, joinCores, leaveCores } from "./core_scheduling.ts";
import { type FwCfgDescription, FwCfgItems } from "./fw_cfg_items.ts";
import type { FunctionDescription } from "./pci_functions.ts";
import type { PlatformDescription } from "./platform.ts";
import { createVcpuOutputs, type VcpuOutputDescription } from "./vcpu_outputs.ts";
import { VcpuControl, VcpuState } from "./vcpu_control.ts";
import { VcpuLoop } from "./vcpu_loop.ts";
import { VcpuMachine } from "./vcpu_machine.ts";
import { IDLE_THREAD_NAME, postEvent, WorkerService } from "./worker_serve.ts";

/** What all vCPUs of a VM are told alike; plain and cloneable. */
export interface VcpuCommon {
  readonly vmFd: number;
  readonly ioWakeFd: number;
  readonly platform: PlatformDescription;
  readonly functions: readonly FunctionDescription[];
  readonly outputs: VcpuOutputDescription;
  /** The firmware configuration device, when there is one. */
  readonly fwCfg?: FwCfgDescription;
}

/** Everything a vCPU needs to run. */
export interface VcpuStart extends VcpuCommon {
  readonly index: number;
  /** Name of its thread. */
  readonly name: string;
  readonly vcpuFd: number;
  readonly runPage: bigint;
  readonly runPageBytes: number;
  readonly control: SharedArrayBuffer;
  /** Host CPUs this vCPU may run on. */
  readonly affinity?: readonly number[];
  readonly coreScheduling: CpusConfig["core_scheduling"];
  /** `CoreSchedulingBlock` of the VM. */
  readonly cores: SharedArrayBuffer;
}

let machine: VcpuMachine | undefined;
let loop: VcpuLoop | undefined;
let vcpuFd = -1;
/** Whether the thread has a core scheduling cookie. */
let hasCookie = false;

const post = (event: GuestEvent) => postEvent(event);

function start(request: VcpuStart): void {
  setThreadName(request.name);
  if (request.affinity !== undefined) setAffinity(request.affinity);
  setCores(request);
  vcpuFd = request.vcpuFd;
  armKick(vcpuFd);
  const control = VcpuControl.attach(request.control);
  const vm = new VmFd(request.vmFd);
  machine = new VcpuMachine({
    platform: request.platform,
    functions: request.functions,
    vm,
    ioWakeFd: request.ioWakeFd,
    outputs: createVcpuOutputs(request.outputs, request.ioWakeFd),
    fwCfg: request.fwCfg && {
      state: FwCfgBlock.attach(request.fwCfg.block),
      items: new FwCfgItems(request.fwCfg),
    },
    events: { post },
    halt: () => loop!.halt(),
  });
  const { pio, mmio, power } = machine;
  loop = new VcpuLoop(
    request.vcpuFd,
    wrap(request.runPage, request.runPageBytes),
    control,
    {
      pio: pio.access.bind(pio),
      mmio: mmio.access.bind(mmio),
      endOfInterrupt: (vector) => machine!.endOfInterrupt(vector),
      reset: () => power.reset(),
      fatal: (text) => post({ kind: "fatal", text: `vcpu${request.index}: ${text}` }),
    },
    () => service.hasMail(),
  );
  Atomics.store(control.words, VcpuControl.index.tid, threadId());
  Atomics.store(control.words, VcpuControl.index.state, VcpuState.starting);
}

/** @throws Error with the chain of what failed: a VM must not run beside those it is to be kept from */
function setCores({ index, coreScheduling, cores }: VcpuStart): void {
  let outcome;
  try {
    outcome = joinCores(coreScheduling, CoreSchedulingBlock.attach(cores));
  } catch (cause) {
    throw new Error("Error enabling core scheduling", { cause });
  }
  hasCookie = outcome === "done";
  if (hasCookie) {
    const text = `vCPU ${index}: core scheduling cookie = 0x${coreCookie().toString(16)}`;
    post({ kind: "log", level: "info", key: text, text });
  } else if (outcome === "noKernelSupport" && index === 0 && hasHyperthreads()) {
    const text = "Kernel lacks CONFIG_SCHED_CORE support - no SMT isolation";
    post({ kind: "log", level: "warn", key: text, text });
  }
}

/** The VM is gone: nothing of it may be touched again. */
function rest(): void {
  if (hasCookie) leaveCores();
  hasCookie = false;
  machine = undefined;
  loop = undefined;
  vcpuFd = -1;
  setThreadName(IDLE_THREAD_NAME);
}

const service: WorkerService = new WorkerService(
  {
    attach: () => {},
    end: () => {},
    start,
    rest,
    nmi: () => check(BigInt(ioctlValue(vcpuFd, KVM.NMI, 0n)), "KVM_NMI"),
    addFunction: (fn: FunctionDescription) => machine!.addFunction(fn),
    removeFunction: ({ segment, slot }: { segment: number; slot: number }) =>
      machine!.removeFunction(segment, slot),
  },
  () => {
    // A stopped vCPU is closed: its loop must not be entered again.
    if (loop?.run() === "stopped") loop = undefined;
  },
);
service.serve();

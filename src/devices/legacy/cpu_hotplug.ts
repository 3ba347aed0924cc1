/**
 * CPU hot-plug controller: the guest looks at one CPU at a time, acknowledges what it saw, and ejects.
 *
 * L4: registers run in vCPU Workers, `insertCpu`, `requestCpuRemoval` and `cpusBeingRemoved` on main.
 * An acknowledged removal request stays valid until the CPU is ejected: the guest's scan writes the request bit back
 * before its `_EJ0` runs. Source: spec/machine-model.md §4, §9 (PRES, CPUS).
 */
import type { IoDevice } from "@vmm/bus/io_device.ts";
import type { EventSink } from "@vmm/bus/ports.ts";
import { type BlockOf, defineBlock } from "@vmm/sync/shared_block.ts";

/** Most CPUs the block has room for (KVM_MAX_VCPUS of common kernels). */
export const CPU_HOTPLUG_MAX_CPUS = 4096;

const OFFSET_SELECT = 0;
const OFFSET_STATUS = 4;

/** Bits of the status byte; `ejectable` is ours alone and never read by the guest. */
const STATUS = { enabled: 1, inserting: 2, removing: 4, eject: 8 } as const;
const VISIBLE = STATUS.enabled | STATUS.inserting | STATUS.removing;
const EJECTABLE = 0x10;

/** Selected CPU, number of possible CPUs, status of each. */
export const CpuHotplugBlock = defineBlock("cpu-hotplug", {
  selected: "u32",
  maxCpus: "u32",
  status: { u8: CPU_HOTPLUG_MAX_CPUS },
});
export type CpuHotplugState = BlockOf<typeof CpuHotplugBlock>;

/** A new block with CPUs 0 to `bootCpus` − 1 enabled. @throws RangeError above `CPU_HOTPLUG_MAX_CPUS` */
export function createCpuHotplug(bootCpus: number, maxCpus: number): CpuHotplugState {
  if (maxCpus > CPU_HOTPLUG_MAX_CPUS) {
    throw new RangeError(
      `Cannot have ${maxCpus} CPUs: the hot-plug controller has room for ${CPU_HOTPLUG_MAX_CPUS}`,
    );
  }
  const state = CpuHotplugBlock.create();
  state.maxCpus = maxCpus;
  state.status.fill(STATUS.enabled, 0, bootCpus);
  return state;
}

/** Shows `cpu` to the guest as newly inserted; notify the GED afterwards. */
export function insertCpu(state: CpuHotplugState, cpu: number): void {
  state.lock();
  state.status[cpu] = STATUS.enabled | STATUS.inserting;
  state.unlock();
}

/** Asks the guest to give `cpu` back; notify the GED afterwards. A `cpu-eject` event tells when it did. */
export function requestCpuRemoval(state: CpuHotplugState, cpu: number): void {
  state.lock();
  state.status[cpu] |= STATUS.removing | EJECTABLE;
  state.unlock();
}

/** CPUs whose removal was asked for and not done yet. */
export function cpusBeingRemoved(state: CpuHotplugState): number[] {
  const found: number[] = [];
  for (let cpu = 0; cpu < state.maxCpus; cpu++) if (state.status[cpu] & EJECTABLE) found.push(cpu);
  return found;
}

/** 12 bytes. */
export class CpuHotplug implements IoDevice {
  constructor(private readonly state: CpuHotplugState, private readonly events: EventSink) {}

  read(offset: number, size: number): number {
    const { state } = this;
    if (offset === OFFSET_SELECT) return size === 4 ? state.selected : 0;
    if (offset !== OFFSET_STATUS || size !== 1 || state.selected >= state.maxCpus) return 0;
    return state.status[state.selected] & VISIBLE;
  }

  write(offset: number, size: number, value: number): void {
    const { state } = this;
    if (offset === OFFSET_SELECT && size === 4) state.selected = value;
    else if (offset === OFFSET_STATUS && size === 1) this.#writeStatus(value);
  }

  #writeStatus(value: number): void {
    const { state } = this;
    state.lock();
    const cpu = state.selected;
    let ejected = false;
    if (cpu < state.maxCpus) {
      // The guest writes a one to acknowledge what it read.
      let status = state.status[cpu] & ~(value & (STATUS.inserting | STATUS.removing));
      if ((value & STATUS.eject) !== 0 && (status & EJECTABLE) !== 0 && cpu !== 0) {
        status = 0;
        ejected = true;
      }
      state.status[cpu] = status;
    }
    state.unlock();
    if (ejected) this.events.post({ kind: "cpu-eject", cpu });
  }
}

/**
 * `vm.resize`: changes the number of vCPUs, the memory, the balloon, in this order.
 *
 * L6, main isolate. Source: spec/rest-api.md §4, spec/lifecycle.md §2, §3.
 */
import type { VmResize } from "@schemas/api/requests.ts";
import type { VmConfig } from "@schemas/api/vm_config.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import { EMPTY_REPLY } from "../command.ts";
import { type Operation, WITH_INSTANCE } from "../operation.ts";
import type { Vmm } from "../vmm.ts";

function withVcpus(config: VmConfig, vcpus: number): VmConfig {
  return { ...config, cpus: { ...config.cpus, boot_vcpus: vcpus } };
}

function withBalloon(config: VmConfig, sizeBytes: bigint): VmConfig {
  return config.balloon === undefined
    ? config
    : { ...config, balloon: { ...config.balloon, size: sizeBytes } };
}

/** Memory plugged by virtio-mem is kept apart from the size the VM boots with. */
function withLiveRam(config: VmConfig, sizeBytes: bigint): VmConfig {
  const { memory } = config;
  return memory.hotplug_method === "VirtioMem"
    ? { ...config, memory: { ...memory, hotplugged_size: sizeBytes - memory.size } }
    : { ...config, memory: { ...memory, size: sizeBytes } };
}

/** Writes the wishes into the configuration, unchecked: boot will look at them. */
async function resizeConfig(vmm: Vmm, wish: VmResize): Promise<void> {
  let config = vmm.wantConfig();
  if (wish.desired_vcpus !== undefined) config = withVcpus(config, wish.desired_vcpus);
  if (wish.desired_ram !== undefined) {
    config = { ...config, memory: { ...config.memory, size: wish.desired_ram } };
  }
  if (wish.desired_balloon !== undefined) config = withBalloon(config, wish.desired_balloon);
  await vmm.store(config);
}

/** What a resize of memory must be a multiple of (ACPI). */
const RAM_STEP_BYTES = 128n << 20n;

function cpuRefusal(reason: string): ContextError {
  return new ContextError(["Error from CPU manager"], new Error(reason));
}

function memoryRefusal(reason: string): ContextError {
  return new ContextError(["Memory manager error"], new Error(reason));
}

/** True if the machine has to do something. @throws ContextError for a number it cannot have */
function changesVcpus({ cpus }: VmConfig, wanted: number): boolean {
  if (wanted === cpus.boot_vcpus) return false;
  if (wanted === 0) throw cpuRefusal("Requested zero vCPUs");
  if (wanted > cpus.max_vcpus) throw cpuRefusal("Requested vCPUs exceed maximum");
  return true;
}

/**
 * True if the machine has to do something: with ACPI, less memory is for the next boot.
 *
 * @throws ContextError for a size it cannot have
 */
function changesRam({ memory }: VmConfig, wantedBytes: bigint, presentBytes: bigint): boolean {
  // With zones of the user's own the machine refuses by itself.
  if (memory.zones !== undefined) return true;
  if (memory.hotplug_method === "VirtioMem") {
    if (wantedBytes >= memory.size) return true;
    throw memoryRefusal(
      `Invalid resize request: desired_size = ${wantedBytes} below boot size = ${memory.size}`,
    );
  }
  const moreBytes = wantedBytes - presentBytes;
  if (moreBytes <= 0n) return false;
  if (moreBytes % RAM_STEP_BYTES !== 0n) {
    throw memoryRefusal("The requested hotplug memory addition is not a valid size");
  }
  if (moreBytes > (memory.hotplug_size ?? 0n)) {
    throw memoryRefusal("Not enough space in the hotplug RAM region");
  }
  return true;
}

/** Stops at the first part that fails; earlier ones stay done. */
export const vmResize: Operation<"vm.resize"> = {
  name: "vm.resize",
  failure: "The VM could not be resized",
  concurrency: "exclusive",
  announces: { event: "resizing", in: WITH_INSTANCE },
  async run(vmm, { body }) {
    const { instance } = vmm;
    if (instance === undefined) {
      await resizeConfig(vmm, body);
      return EMPTY_REPLY;
    }
    const { desired_vcpus, desired_ram, desired_balloon } = body;
    if (desired_vcpus !== undefined) {
      if (changesVcpus(vmm.wantConfig(), desired_vcpus)) await instance.resize({ vcpus: desired_vcpus });
      await vmm.store(withVcpus(vmm.wantConfig(), desired_vcpus));
    }
    if (desired_ram !== undefined) {
      const { memory } = instance.config ?? vmm.wantConfig();
      if (changesRam(vmm.wantConfig(), desired_ram, memory.size)) {
        await instance.resize({ ramBytes: desired_ram });
      }
      await vmm.store(withLiveRam(vmm.wantConfig(), desired_ram));
    }
    if (desired_balloon !== undefined) {
      await instance.resize({ balloonBytes: desired_balloon });
      await vmm.store(withBalloon(vmm.wantConfig(), desired_balloon));
    }
    vmm.events.emit("vm", "resized");
    return EMPTY_REPLY;
  },
};

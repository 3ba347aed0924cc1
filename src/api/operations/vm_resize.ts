/**
 * `vm.resize`: changes the number of vCPUs, the memory, the balloon, in this order.
 *
 * L6, main isolate. Source: spec/rest-api.md §4, spec/lifecycle.md §2, §3.
 */
import type { VmResize } from "@schemas/api/requests.ts";
import type { VmConfig } from "@schemas/api/vm_config.ts";
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
      await instance.resize({ vcpus: desired_vcpus });
      await vmm.store(withVcpus(vmm.wantConfig(), desired_vcpus));
    }
    if (desired_ram !== undefined) {
      await instance.resize({ ramBytes: desired_ram });
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

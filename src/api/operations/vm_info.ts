/**
 * `vm.info`: configuration, state, memory and device tree.
 *
 * L6, main isolate. Source: spec/rest-api.md §4.
 */
import type { VmConfig } from "@schemas/api/vm_config.ts";
import { jsonReply } from "../command.ts";
import type { Operation } from "../operation.ts";

/** Memory of a VM that is not running, in bytes: what it will boot with. */
function configuredMemory(config: VmConfig): bigint {
  let total = config.memory.size;
  for (const zone of config.memory.zones ?? []) total += zone.size;
  return total;
}

/** Answers at once, whatever is under way. */
export const vmInfo: Operation<"vm.info"> = {
  name: "vm.info",
  failure: "The VM info is not available",
  concurrency: "immediate",
  run(vmm) {
    const { instance } = vmm;
    const head = `{"config":${vmm.configText()},"state":`;
    if (instance === undefined) {
      return jsonReply(`${head}"Created","memory_actual_size":${configuredMemory(vmm.wantConfig())}}`);
    }
    const size = instance.memoryActualSize();
    const tree = vmm.deviceTreeText(instance.deviceTree());
    return jsonReply(`${head}"${instance.state}","memory_actual_size":${size},"device_tree":${tree}}`);
  },
};

/**
 * `vm.info`: configuration, state, memory and device tree.
 *
 * L6, main isolate. Source: spec/rest-api.md §4.
 */
import type { VmConfig } from "@schemas/api/vm_config.ts";
import { jsonReply } from "../command.ts";
import type { Operation } from "../operation.ts";
import type { Vmm } from "../vmm.ts";

/** Memory of a VM that is not running, in bytes: what it will boot with. */
function configuredMemory(config: VmConfig): bigint {
  let total = config.memory.size;
  for (const zone of config.memory.zones ?? []) total += zone.size;
  return total;
}

/** What the next boot will have less than the instance has: it counts as gone already. */
function shrunkBytes(vmm: Vmm): bigint {
  const bytes = (vmm.instance?.config?.memory.size ?? 0n) - vmm.wantConfig().memory.size;
  return bytes > 0n ? bytes : 0n;
}

/** Answers at once, whatever is under way. */
export const vmInfo: Operation<"vm.info"> = {
  name: "vm.info",
  failure: "The VM info is not available",
  concurrency: "immediate",
  run(vmm) {
    const { view } = vmm;
    const head = `{"config":${vmm.configText()},"state":`;
    if (view === undefined) {
      return jsonReply(`${head}"Created","memory_actual_size":${configuredMemory(vmm.wantConfig())}}`);
    }
    const memory = view.memoryActualSize - shrunkBytes(vmm);
    const tree = vmm.deviceTreeText(view.deviceTree);
    return jsonReply(
      `${head}"${view.state}","memory_actual_size":${memory > 0n ? memory : 0n},"device_tree":${tree}}`,
    );
  },
};

/**
 * `vm.info`: configuration, state, memory and device tree.
 *
 * L6, main isolate. Source: spec/rest-api.md §4.
 */
import type { VmConfig } from "@schemas/api/vm_config.ts";
import { type ApiReply, jsonReply } from "../command.ts";
import type { Operation } from "../operation.ts";
import type { Vmm } from "../vmm.ts";

/** Memory of a VM that is not running, in bytes: what it will boot with. */
function configuredMemory(config: VmConfig): bigint {
  let total = config.memory.size;
  for (const zone of config.memory.zones ?? []) total += zone.size;
  return BigInt.asUintN(64, total); // As the original's sum: clients read 64 bits.
}

/** What the next boot will have less than the instance has: it counts as gone already. */
function shrunkBytes(vmm: Vmm): bigint {
  const bytes = (vmm.instance?.config?.memory.size ?? 0n) - vmm.wantConfig().memory.size;
  return bytes > 0n ? bytes : 0n;
}

/** What an answer is made of. Texts are kept by the Vmm, so the same state gives the same ones. */
interface InfoParts {
  readonly config: string;
  readonly state: string;
  readonly memoryBytes: bigint;
  /** Absent without an instance. */
  readonly tree?: string;
}

/** The last answer: clients poll, and little changes in between. */
let last: { readonly parts: InfoParts; readonly reply: ApiReply } | undefined;

function replyOf(parts: InfoParts): ApiReply {
  const { config, state, memoryBytes, tree } = parts;
  const same = last !== undefined && last.parts.tree === tree && last.parts.config === config &&
    last.parts.state === state && last.parts.memoryBytes === memoryBytes;
  if (!same) {
    const head = `{"config":${config},"state":"${state}","memory_actual_size":${memoryBytes}`;
    last = { parts, reply: jsonReply(tree === undefined ? `${head}}` : `${head},"device_tree":${tree}}`) };
  }
  return last!.reply;
}

/** Answers at once, whatever is under way. */
export const vmInfo: Operation<"vm.info"> = {
  name: "vm.info",
  failure: "The VM info is not available",
  concurrency: "immediate",
  run(vmm) {
    const { view } = vmm;
    const config = vmm.configText();
    if (view === undefined) {
      return replyOf({ config, state: "Created", memoryBytes: configuredMemory(vmm.wantConfig()) });
    }
    const { state, memoryActualSize, deviceTree } = view;
    const memory = memoryActualSize - shrunkBytes(vmm);
    const tree = vmm.deviceTreeText(deviceTree);
    return replyOf({ config, state, memoryBytes: memory > 0n ? memory : 0n, tree });
  },
};

/**
 * `vm.shutdown`: stops the VM without asking the guest; the configuration stays.
 *
 * L6, main isolate. Source: spec/rest-api.md §4.
 */
import { EMPTY_REPLY } from "../command.ts";
import type { Operation } from "../operation.ts";

/** Afterwards the VM can be booted again. */
export const vmShutdown: Operation<"vm.shutdown"> = {
  name: "vm.shutdown",
  failure: "The VM could not shutdown",
  concurrency: "exclusive",
  async run(vmm) {
    await vmm.dropInstance();
    vmm.events.emit("vm", "shutdown");
    return EMPTY_REPLY;
  },
};

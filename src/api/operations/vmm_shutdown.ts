/**
 * `vmm.shutdown`: deletes the VM and ends the program.
 *
 * L6, main isolate. Source: spec/rest-api.md §4.
 */
import { EMPTY_REPLY } from "../command.ts";
import type { Operation } from "../operation.ts";

/** The control loop ends after it. */
export const vmmShutdown: Operation<"vmm.shutdown"> = {
  name: "vmm.shutdown",
  failure: "The VMM could not shutdown",
  concurrency: "exclusive",
  async run(vmm) {
    await vmm.deleteAll();
    vmm.events.emit("vmm", "shutdown");
    return EMPTY_REPLY;
  },
};

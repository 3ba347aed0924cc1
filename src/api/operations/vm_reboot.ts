/**
 * `vm.reboot`: drops the instance and makes a new one of the same configuration.
 *
 * L6, main isolate. Source: spec/rest-api.md §4, spec/lifecycle.md §12.
 */
import { EMPTY_REPLY } from "../command.ts";
import type { Operation } from "../operation.ts";
import { SITUATIONS } from "../state_matrix.ts";

/** If the new instance cannot be made there is none: the configuration stays. */
export const vmReboot: Operation<"vm.reboot"> = {
  name: "vm.reboot",
  failure: "The VM could not reboot",
  concurrency: "exclusive",
  announces: { event: "rebooting", in: SITUATIONS },
  async run(vmm) {
    await vmm.replaceInstance();
    vmm.events.emit("vm", "rebooted");
    return EMPTY_REPLY;
  },
};

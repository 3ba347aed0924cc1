/**
 * `vm.resume`: lets a paused guest go on.
 *
 * L6, main isolate. Source: spec/rest-api.md §4, spec/lifecycle.md §6.
 */
import { EMPTY_REPLY } from "../command.ts";
import { type Operation, WITH_INSTANCE } from "../operation.ts";

/** Also starts an instance whose boot failed or that was restored. */
export const vmResume: Operation<"vm.resume"> = {
  name: "vm.resume",
  failure: "The VM could not resume",
  concurrency: "exclusive",
  announces: { event: "resuming", in: WITH_INSTANCE },
  async run(vmm) {
    await vmm.wantInstance().resume();
    vmm.events.emit("vm", "resumed");
    return EMPTY_REPLY;
  },
};

/**
 * `vm.pause`: stops the guest from executing.
 *
 * L6, main isolate. Source: spec/rest-api.md §4, spec/lifecycle.md §6.
 */
import { EMPTY_REPLY } from "../command.ts";
import { type Operation, WITH_INSTANCE } from "../operation.ts";

/** Guest time goes on. */
export const vmPause: Operation<"vm.pause"> = {
  name: "vm.pause",
  failure: "The VM could not be paused",
  concurrency: "exclusive",
  announces: { event: "pausing", in: WITH_INSTANCE },
  async run(vmm) {
    await vmm.wantInstance().pause();
    vmm.events.emit("vm", "paused");
    return EMPTY_REPLY;
  },
};

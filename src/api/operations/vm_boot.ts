/**
 * `vm.boot`: makes an instance of the configuration and starts it.
 *
 * L6, main isolate. Source: spec/rest-api.md §4.
 */
import { EMPTY_REPLY } from "../command.ts";
import type { Operation } from "../operation.ts";

/** An instance that was made but failed to start is kept. */
export const vmBoot: Operation<"vm.boot"> = {
  name: "vm.boot",
  failure: "The VM could not boot",
  concurrency: "exclusive",
  announces: { event: "booting", in: ["absent", "cold"] },
  async run(vmm) {
    await vmm.bootInstance();
    vmm.events.emit("vm", "booted");
    return EMPTY_REPLY;
  },
};

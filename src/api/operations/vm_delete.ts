/**
 * `vm.delete`: forgets the VM, stopping it first.
 *
 * L6, main isolate. Source: spec/rest-api.md §4.
 */
import { EMPTY_REPLY } from "../command.ts";
import type { Operation } from "../operation.ts";

/** No VM is no error. */
export const vmDelete: Operation<"vm.delete"> = {
  name: "vm.delete",
  failure: "The VM could not be deleted",
  concurrency: "exclusive",
  async run(vmm) {
    await vmm.deleteAll();
    return EMPTY_REPLY;
  },
};

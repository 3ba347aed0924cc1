/**
 * `vm.nmi`: sends a non-maskable interrupt to all vCPUs.
 *
 * L6, main isolate. Source: spec/rest-api.md §4.
 */
import { EMPTY_REPLY } from "../command.ts";
import type { Operation } from "../operation.ts";

/** What the guest does with it is its own business. */
export const vmNmi: Operation<"vm.nmi"> = {
  name: "vm.nmi",
  failure: "Error triggering NMI",
  concurrency: "exclusive",
  async run(vmm) {
    await vmm.wantInstance().nmi();
    return EMPTY_REPLY;
  },
};

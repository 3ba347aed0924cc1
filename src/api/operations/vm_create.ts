/**
 * `vm.create`: stores a configuration and opens its consoles.
 *
 * L6, main isolate. Source: spec/rest-api.md §4.
 */
import { EMPTY_REPLY } from "../command.ts";
import type { Operation } from "../operation.ts";

/** The other rules wait for boot. The configuration stays stored when a console cannot be opened. */
export const vmCreate: Operation<"vm.create"> = {
  name: "vm.create",
  failure: "The VM could not be created",
  concurrency: "exclusive",
  async run(vmm, { body }) {
    (await vmm.tools()).checkConsoles(body);
    await vmm.store(body);
    await vmm.openConsoles();
    return EMPTY_REPLY;
  },
};

/**
 * `vm.receive-migration`: waits for a VM another VMM sends.
 *
 * L6, main isolate. Source: spec/rest-api.md §4, spec/lifecycle.md §9.
 */
import { UnsupportedError } from "@vmm/errors/unsupported_error.ts";
import type { Operation } from "../operation.ts";

/** Checks its input and the state; receiving is not there yet. */
export const vmReceiveMigration: Operation<"vm.receive-migration"> = {
  name: "vm.receive-migration",
  failure: "Error receiving migration",
  concurrency: "exclusive",
  async run(vmm, { body }) {
    (await vmm.tools()).checkReceiveMigration(body);
    throw new UnsupportedError("Live migration", `cannot listen for a VM at "${body.receiver_url}"`);
  },
};

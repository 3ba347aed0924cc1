/**
 * `vm.send-migration`: sends the VM to another VMM.
 *
 * L6, main isolate. Source: spec/rest-api.md §4, spec/lifecycle.md §9.
 */
import { UnsupportedError } from "@vmm/errors/unsupported_error.ts";
import type { Operation } from "../operation.ts";
import { lateRefusalOf } from "../state_matrix.ts";

/** Checks its input and the state; sending is not there yet. */
export const vmSendMigration: Operation<"vm.send-migration"> = {
  name: "vm.send-migration",
  failure: "Error dispatching the migration worker",
  concurrency: "exclusive",
  async run(vmm, { body }) {
    (await vmm.tools()).checkSendMigration(body);
    const refusal = lateRefusalOf("vm.send-migration", vmm.situation);
    if (refusal !== undefined) throw refusal;
    throw new UnsupportedError("Live migration", `cannot send the VM to "${body.destination_url}"`);
  },
};

/**
 * `vm.coredump`: writes the memory and registers of a VM to an ELF core file.
 *
 * L6, main isolate. Source: spec/rest-api.md §4, spec/lifecycle.md §10.
 */
import { EMPTY_REPLY } from "../command.ts";
import { type Operation, WITH_INSTANCE } from "../operation.ts";
import { coredumpFile } from "../saved_files.ts";

/** A running VM is paused meanwhile. */
export const vmCoredump: Operation<"vm.coredump"> = {
  name: "vm.coredump",
  failure: "The VM could not be coredumped",
  concurrency: "exclusive",
  announces: { event: "coredumping", in: WITH_INSTANCE },
  async run(vmm, { body }) {
    coredumpFile(body.destination_url);
    await vmm.wantInstance().coredump(body.destination_url);
    return EMPTY_REPLY;
  },
};

/**
 * `vm.snapshot`: writes a paused VM to a directory.
 *
 * L6, main isolate. Source: spec/rest-api.md §4, spec/lifecycle.md §7.
 */
import { EMPTY_REPLY } from "../command.ts";
import { type Operation, WITH_INSTANCE } from "../operation.ts";
import { snapshotFolder } from "../saved_files.ts";

/** `snapshotted` is told even when writing failed, as the original does. */
export const vmSnapshot: Operation<"vm.snapshot"> = {
  name: "vm.snapshot",
  failure: "The VM could not be snapshotted",
  concurrency: "exclusive",
  announces: { event: "snapshotting", in: WITH_INSTANCE },
  async run(vmm, { body }) {
    try {
      snapshotFolder(body.destination_url, "Cannot send VM snapshot");
      await vmm.wantInstance().snapshot(body.destination_url);
    } finally {
      vmm.events.emit("vm", "snapshotted");
    }
    return EMPTY_REPLY;
  },
};

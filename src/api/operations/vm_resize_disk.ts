/**
 * `vm.resize-disk`: changes the size of a disk image and tells the guest.
 *
 * L6, main isolate. Source: spec/rest-api.md §4.
 */
import { EMPTY_REPLY } from "../command.ts";
import type { Operation } from "../operation.ts";

/** Only for disks of a live VM. */
export const vmResizeDisk: Operation<"vm.resize-disk"> = {
  name: "vm.resize-disk",
  failure: "The disk could not be resized",
  concurrency: "exclusive",
  async run(vmm, { body }) {
    await vmm.wantInstance().resizeDisk(body.id, body.desired_size);
    return EMPTY_REPLY;
  },
};

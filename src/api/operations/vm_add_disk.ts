/**
 * `vm.add-disk`: plugs in a disk.
 *
 * L6, main isolate. Source: spec/rest-api.md §4, spec/lifecycle.md §4.
 */
import { addDevice } from "../hotplug.ts";
import type { Operation } from "../operation.ts";

/** Without an instance the configuration grows; with one the device is plugged in. */
export const vmAddDisk: Operation<"vm.add-disk"> = {
  name: "vm.add-disk",
  failure: "The disk could not be added to the VM",
  concurrency: "exclusive",
  run: (vmm, { body }) => addDevice(vmm, "disk", body),
};

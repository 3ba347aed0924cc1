/**
 * `vm.add-vdpa`: plugs in a vDPA device.
 *
 * L6, main isolate. Source: spec/rest-api.md §4, spec/lifecycle.md §4.
 */
import { addDevice } from "../hotplug.ts";
import type { Operation } from "../operation.ts";

/** Without an instance the configuration grows; with one the device is plugged in. */
export const vmAddVdpa: Operation<"vm.add-vdpa"> = {
  name: "vm.add-vdpa",
  failure: "The vDPA device could not be added to the VM",
  concurrency: "exclusive",
  run: (vmm, { body }) => addDevice(vmm, "vdpa", body),
};

/**
 * `vm.add-user-device`: plugs in a vfio-user device.
 *
 * L6, main isolate. Source: spec/rest-api.md §4, spec/lifecycle.md §4.
 */
import { addDevice } from "../hotplug.ts";
import type { Operation } from "../operation.ts";

/** Without an instance the configuration grows; with one the device is plugged in. */
export const vmAddUserDevice: Operation<"vm.add-user-device"> = {
  name: "vm.add-user-device",
  failure: "The user device could not be added to the VM",
  concurrency: "exclusive",
  run: (vmm, { body }) => addDevice(vmm, "user-device", body),
};

/**
 * `vm.add-generic-vhost-user`: plugs in a device implemented by a vhost-user back-end.
 *
 * L6, main isolate. Source: spec/rest-api.md §4, spec/lifecycle.md §4.
 */
import { addDevice } from "../hotplug.ts";
import type { Operation } from "../operation.ts";

/** Without an instance the configuration grows; with one the device is plugged in. */
export const vmAddGenericVhostUser: Operation<"vm.add-generic-vhost-user"> = {
  name: "vm.add-generic-vhost-user",
  failure: "The generic vhost-user device could not be added to the VM",
  concurrency: "exclusive",
  run: (vmm, { body }) => addDevice(vmm, "generic-vhost-user", body),
};

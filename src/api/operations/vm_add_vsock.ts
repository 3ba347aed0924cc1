/**
 * `vm.add-vsock`: plugs in the vsock device.
 *
 * L6, main isolate. Source: spec/rest-api.md §4, spec/lifecycle.md §4.
 */
import { StateError } from "@vmm/errors/state_error.ts";
import { addDevice } from "../hotplug.ts";
import type { Operation } from "../operation.ts";

/** There can be one only. */
export const vmAddVsock: Operation<"vm.add-vsock"> = {
  name: "vm.add-vsock",
  failure: "The vsock device could not be added to the VM",
  concurrency: "exclusive",
  run(vmm, { body }) {
    if (vmm.wantConfig().vsock !== undefined) throw StateError.refused("Too many virtio-vsock devices");
    return addDevice(vmm, "vsock", body);
  },
};

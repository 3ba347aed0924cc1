/**
 * `vm.add-device`: plugs in a VFIO device, by path or by the descriptor that came along.
 *
 * L6, main isolate. Source: spec/rest-api.md §4, spec/lifecycle.md §4.
 */
import { addDevice } from "../hotplug.ts";
import type { Operation } from "../operation.ts";

/** At most one descriptor; the front door refuses more. */
export const vmAddDevice: Operation<"vm.add-device"> = {
  name: "vm.add-device",
  failure: "The device could not be added to the VM",
  concurrency: "exclusive",
  run(vmm, { body, descriptors }) {
    const [fd] = descriptors?.peek() ?? [];
    return addDevice(vmm, "device", fd === undefined ? body : { ...body, fd }, descriptors);
  },
};

/**
 * `vm.add-net`: plugs in a network device, on the taps whose descriptors came along.
 *
 * L6, main isolate. Source: spec/rest-api.md §4, spec/lifecycle.md §4.
 */
import { addDevice } from "../hotplug.ts";
import type { Operation } from "../operation.ts";

/** Descriptors stay open as long as the configuration holds the device: a reboot needs them again. */
export const vmAddNet: Operation<"vm.add-net"> = {
  name: "vm.add-net",
  failure: "The network device could not be added to the VM",
  concurrency: "exclusive",
  run(vmm, { body, descriptors }) {
    const fds = descriptors?.peek() ?? [];
    return addDevice(vmm, "net", fds.length === 0 ? body : { ...body, fds: [...fds] }, descriptors);
  },
};

/**
 * `vm.add-fs`: plugs in a shared file system.
 *
 * L6, main isolate. Source: spec/rest-api.md §4, spec/lifecycle.md §4.
 */
import { addDevice } from "../hotplug.ts";
import type { Operation } from "../operation.ts";

/** Without an instance the configuration grows; with one the device is plugged in. */
export const vmAddFs: Operation<"vm.add-fs"> = {
  name: "vm.add-fs",
  failure: "The fs could not be added to the VM",
  concurrency: "exclusive",
  run: (vmm, { body }) => addDevice(vmm, "fs", body),
};

/**
 * `vm.add-pmem`: plugs in persistent memory.
 *
 * L6, main isolate. Source: spec/rest-api.md §4, spec/lifecycle.md §4.
 */
import { addDevice } from "../hotplug.ts";
import type { Operation } from "../operation.ts";

/** Without an instance the configuration grows; with one the device is plugged in. */
export const vmAddPmem: Operation<"vm.add-pmem"> = {
  name: "vm.add-pmem",
  failure: "The pmem device could not be added to the VM",
  concurrency: "exclusive",
  run: (vmm, { body }) => addDevice(vmm, "pmem", body),
};

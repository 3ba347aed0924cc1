/**
 * `vm.remove-device`: asks the guest to give a device back.
 *
 * L6, main isolate. Source: spec/rest-api.md §4, spec/lifecycle.md §5.
 */
import { quoted } from "@schemas/json/fault.ts";
import { StateError } from "@vmm/errors/state_error.ts";
import { EMPTY_REPLY } from "../command.ts";
import { withoutDevice } from "../device_lists.ts";
import type { Operation } from "../operation.ts";

/** Returns before the guest has let go; the configuration forgets the device at once. */
export const vmRemoveDevice: Operation<"vm.remove-device"> = {
  name: "vm.remove-device",
  failure: "The device could not be removed from the VM",
  concurrency: "exclusive",
  async run(vmm, { body: { id } }) {
    const { instance } = vmm;
    if (instance === undefined) {
      const config = withoutDevice(vmm.wantConfig(), id);
      if (config === undefined) {
        throw new StateError("DEVICE_UNKNOWN", 404, [`No device with id ${quoted(id)} to remove`]);
      }
      await vmm.store(config);
      return EMPTY_REPLY;
    }
    await instance.removeDevice(id);
    const config = withoutDevice(vmm.wantConfig(), id);
    if (config !== undefined) await vmm.store(config);
    return EMPTY_REPLY;
  },
};

/**
 * `vm.power-button`: presses the power button; what follows is up to the guest.
 *
 * L6, main isolate. Source: spec/rest-api.md §4.
 */
import { EMPTY_REPLY } from "../command.ts";
import type { Operation } from "../operation.ts";

/** Returns before the guest reacts. */
export const vmPowerButton: Operation<"vm.power-button"> = {
  name: "vm.power-button",
  failure: "Error triggering power button",
  concurrency: "exclusive",
  run(vmm) {
    vmm.wantInstance().powerButton();
    return EMPTY_REPLY;
  },
};

/**
 * virtio-watchdog: resets a guest that has stopped pinging.
 *
 * L5, main isolate.
 */
import type { WatchdogBackend } from "@vmm/devices/virtio/watchdog/handler.ts";
import { watchdogModel } from "@vmm/devices/virtio/watchdog/model.ts";
import type { PluggedDevice } from "./plugged_device.ts";

/** Id of the one watchdog. */
const WATCHDOG_ID = "__watchdog";

/** Describes the device; it has no configuration of its own. `enabled`: restored while the guest was watched. */
export function plugWatchdog(enabled = false): PluggedDevice {
  const backend: WatchdogBackend = { enabled };
  return {
    id: WATCHDOG_ID,
    kind: "watchdog",
    placement: { segment: 0 },
    model: watchdogModel({ iommu: false }),
    backend,
    config: true,
    warnings: [],
    release() {},
  };
}

/**
 * virtio-rtc: the host's wall clock.
 *
 * L5, main isolate.
 */
import type { RtcConfig } from "@schemas/api/virtio_devices.ts";
import { rtcModel } from "@vmm/devices/virtio/rtc/model.ts";
import { placementOf, type PluggedDevice } from "./plugged_device.ts";

/** Id of the one clock. */
const RTC_ID = "__rtc";

/** Describes the device. Never throws. */
export function plugRtc(config: RtcConfig): PluggedDevice {
  return {
    id: config.id ?? RTC_ID,
    kind: "rtc",
    placement: placementOf(config),
    model: rtcModel({ iommu: config.iommu }),
    backend: undefined,
    config,
    warnings: [],
    release() {},
  };
}

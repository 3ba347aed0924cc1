/**
 * virtio-balloon: memory the guest is asked to give up.
 *
 * L5, main isolate.
 */
import type { BalloonConfig } from "@schemas/api/virtio_devices.ts";
import { balloonModel } from "@vmm/devices/virtio/balloon/model.ts";
import { placementOf, type PluggedDevice } from "./plugged_device.ts";

/** Id of the one balloon. */
const BALLOON_ID = "__balloon";

/** Describes the device. Never throws. */
export function plugBalloon(config: BalloonConfig): PluggedDevice {
  return {
    id: config.id ?? BALLOON_ID,
    kind: "balloon",
    placement: placementOf(config),
    model: balloonModel({
      sizeBytes: Number(config.size),
      deflateOnOom: config.deflate_on_oom,
      freePageReporting: config.free_page_reporting,
      iommu: config.iommu,
    }),
    backend: undefined,
    config,
    warnings: [],
    release() {},
  };
}

/**
 * virtio-rng: always present.
 *
 * L5, main isolate.
 */
import { close } from "@ffi/libc/fd.ts";
import type { RngConfig } from "@schemas/api/virtio_devices.ts";
import { openRngSource } from "@vmm/backends/rng_source.ts";
import { rngModel } from "@vmm/devices/virtio/rng/model.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import { placementOf, type PluggedDevice } from "./plugged_device.ts";

/** Id of the one entropy source. */
export const RNG_ID = "__rng";

/** Opens the source and describes the device. @throws ContextError */
export function plugRng(config: RngConfig): PluggedDevice {
  let source;
  try {
    source = openRngSource(config.src);
  } catch (cause) {
    throw new ContextError(
      ["Error from device manager", "Cannot create virtio-rng device"],
      cause,
    );
  }
  return {
    id: config.id ?? RNG_ID,
    kind: "rng",
    placement: placementOf(config),
    model: rngModel({ iommu: config.iommu }),
    backend: source,
    config,
    warnings: [],
    release: () => close(source.fd),
  };
}

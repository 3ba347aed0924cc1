/**
 * virtio-net over tap interfaces.
 *
 * L5, main isolate.
 */
import type { NetConfig } from "@schemas/api/net.ts";
import { openTap } from "@vmm/backends/net/tap.ts";
import { formatMac, parseMac, randomMac } from "@vmm/base/mac_address.ts";
import { createNetCounters, readNetCounters } from "@vmm/devices/virtio/net/counters.ts";
import type { NetBackend } from "@vmm/devices/virtio/net/handler.ts";
import { netModel } from "@vmm/devices/virtio/net/model.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import { limitsOf } from "./limiter.ts";
import { placementOf, type PluggedDevice } from "./plugged_device.ts";

/** What the I/O Workers are told of a network device: counters for each share of its queues. */
export type TapBackend = Omit<NetBackend, "counters"> & { readonly shares: readonly SharedArrayBuffer[] };

/** Opens the interface and describes the device; a MAC address is made when none is given. @throws ContextError */
export function plugNet(config: NetConfig, id: string): PluggedDevice {
  const mac = config.mac === undefined ? randomMac() : parseMac(config.mac);
  if (mac === undefined) {
    throw new ContextError(["Error from device manager"], new Error(`Invalid MAC "${config.mac}"`));
  }
  let tap;
  try {
    tap = openTap(config);
  } catch (cause) {
    throw new ContextError(["Error from device manager"], cause);
  }
  const queuePairs = Math.floor(config.num_queues / 2);
  // The control queue is behind the last pair, or the first one for a driver that knows only that.
  const queueGroups = tap.fds.map((_, pair) => {
    const queues = [2 * pair, 2 * pair + 1];
    return pair === 0 ? [...queues, 2 * queuePairs] : queues;
  });
  const shares = queueGroups.map(() => createNetCounters());
  const backend: TapBackend = { fds: tap.fds, shares, limiter: limitsOf(config.rate_limiter_config) };
  return {
    id,
    kind: "net",
    placement: placementOf(config),
    model: netModel({
      mac,
      mtu: tap.mtu,
      queuePairs,
      queueSize: config.queue_size,
      offloadCsum: config.offload_csum,
      offloadTso: config.offload_tso,
      offloadUfo: config.offload_ufo,
      iommu: config.iommu,
    }),
    backend,
    queueGroups,
    config: { ...config, id, mac: formatMac(mac), tap: config.tap },
    warnings: tap.warnings,
    counters: () => readNetCounters(...shares),
    release: () => tap.close(),
  };
}

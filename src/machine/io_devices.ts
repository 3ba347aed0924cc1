/**
 * Virtio devices in the I/O Worker by kind: what outlives a driver's reset, and how the handler is started.
 *
 * L5, I/O Worker. A new kind of device is a row in `ATTACH`.
 */
import { Errno } from "@ffi/abi/errno.ts";
import { monotonicNs, monotonicUsSmall, realtimeNs } from "@ffi/libc/clock.ts";
import { attachDisk } from "@vmm/backends/disk/attach.ts";
import { attachTaps } from "@vmm/backends/net/tap_port.ts";
import { hostPages } from "@vmm/backends/balloon/page_advisor.ts";
import { createFlusher } from "@vmm/backends/pmem/flusher.ts";
import { attachStreamHost, type VsockBackend } from "@vmm/backends/vsock/stream_host.ts";
import { attachRngSource, type RngSource } from "@vmm/backends/rng_source.ts";
import { RateLimiter } from "@vmm/base/rate_limiter.ts";
import type { ChardevDescriptor } from "@vmm/backends/chardev/open_chardev.ts";
import type { OpenCharDevice } from "@vmm/backends/chardev/open_char_device.ts";
import { createBalloonHandler } from "@vmm/devices/virtio/balloon/handler.ts";
import { createBlockHandler } from "@vmm/devices/virtio/block/handler.ts";
import { createConsoleHandler } from "@vmm/devices/virtio/console/handler.ts";
import { createNetHandler, type NetBackend } from "@vmm/devices/virtio/net/handler.ts";
import { createPmemHandler } from "@vmm/devices/virtio/pmem/handler.ts";
import { createRngHandler } from "@vmm/devices/virtio/rng/handler.ts";
import { createRtcHandler } from "@vmm/devices/virtio/rtc/handler.ts";
import { createVsockHandler } from "@vmm/devices/virtio/vsock/handler.ts";
import { createWatchdogHandler, type WatchdogBackend } from "@vmm/devices/virtio/watchdog/handler.ts";
import type { GuestMemory } from "@vmm/memory/guest_memory.ts";
import type { VmFd } from "@vmm/hypervisor/kvm/vm.ts";
import type { IrqRoutes } from "./irq_routes.ts";
import type { DiskBackend } from "./plug/disk.ts";
import type { TapBackend } from "./plug/net.ts";
import type { PmemBackend } from "./plug/pmem.ts";
import type { HandlerFactory, IoEnvironment, VirtioDeviceDescriptor } from "@vmm/virtio/device.ts";
import { attachIommu } from "./iommu_device.ts";
import { attachVhostUser } from "./vhost_user_device.ts";

/** What a Worker lends to devices as they are attached. */
export interface AttachServices {
  readonly env: IoEnvironment;
  /** The character device of a console back-end, opened once per Worker. */
  charDevice(descriptor: ChardevDescriptor): OpenCharDevice;
  /** Guest memory; grows with hot-plugged regions. */
  readonly memory: GuestMemory;
  readonly vm: VmFd;
  readonly irqRoutes: IrqRoutes;
  /** Which share of the device's queues is served here; 0 leads. */
  readonly share: number;
}

/** A device whose back-end is ready; the handler comes and goes with the guest's driver. */
export interface AttachedDevice {
  readonly start: HandlerFactory;
  /** Closes what `attach` opened. */
  detach(): void;
  /** An order of main while the driver has not started the device. */
  idle?(command: { kind: string } & Record<string, unknown>): unknown;
  /** The driver's notifications are not for this Worker: somebody else reads the descriptors. */
  readonly ownsKicks?: boolean;
  /** vCPUs left something in a shared block, perhaps for this device. */
  woken?(): void;
  /** Guest memory has a new region at `gpa`. */
  regionAdded?(gpa: number): void;
}

const NS_PER_MS = 1e6;
const nowMs = () => monotonicNs() / NS_PER_MS;

/** Cast away the type of the back-end: descriptors of one kind are made by one plug function. */
type Attach = (descriptor: VirtioDeviceDescriptor, services: AttachServices) => AttachedDevice;

const ATTACH: Record<string, Attach> = {
  block(descriptor, { share }) {
    const device = descriptor.backend as DiskBackend;
    const backend = { ...device, counters: device.shares[share] };
    const disk = attachDisk(backend.image);
    const limiter = backend.limiter && new RateLimiter(backend.limiter, nowMs);
    return {
      start: (activation) =>
        createBlockHandler({ ...activation, backend }, { disk, limiter, nowUs: monotonicUsSmall }),
      detach: () => disk.close(),
      idle: ({ kind, sizeBytes }) => ({
        result: kind === "resize" ? disk.resize(Number(sizeBytes)) : -Errno.EINVAL,
        idle: true,
      }),
    };
  },
  console(descriptor, services) {
    const device = services.charDevice(descriptor.backend as ChardevDescriptor);
    return { start: (activation) => createConsoleHandler(activation, { device }), detach: () => {} };
  },
  rng(descriptor) {
    const source = attachRngSource(descriptor.backend as RngSource);
    return { start: (activation) => createRngHandler(activation, source), detach: () => {} };
  },
  net(descriptor, { share }) {
    const device = descriptor.backend as TapBackend;
    const backend: NetBackend = { ...device, counters: device.shares[share] };
    const ports = attachTaps(backend.fds);
    return {
      start: (activation) => createNetHandler({ ...activation, backend }, { ports, nowMs }),
      detach: () => {},
    };
  },
  balloon() {
    return {
      start: (activation) => createBalloonHandler(activation, { pages: hostPages }),
      detach: () => {},
    };
  },
  pmem(descriptor) {
    const file = createFlusher((descriptor.backend as PmemBackend).fd);
    return { start: (activation) => createPmemHandler(activation, { file }), detach: () => file.close() };
  },
  rtc() {
    return { start: (activation) => createRtcHandler(activation, { nowNs: realtimeNs }), detach: () => {} };
  },
  iommu: attachIommu,
  "vhost-user": attachVhostUser,
  vsock(descriptor) {
    const host = attachStreamHost(descriptor.backend as VsockBackend);
    return { start: (activation) => createVsockHandler(activation, { host }), detach: () => {} };
  },
  watchdog(descriptor) {
    let { enabled } = descriptor.backend as WatchdogBackend;
    return {
      start: (activation) => {
        const handler = createWatchdogHandler(activation, { enabled, nowMs });
        enabled = false; // a restored watch goes on once; after a reset the guest has to ask again
        return handler;
      },
      detach: () => {},
    };
  },
};

/** Makes a device ready. @throws Error for a kind this build does not have, or a back-end that cannot be used */
export function attachDevice(descriptor: VirtioDeviceDescriptor, services: AttachServices): AttachedDevice {
  const attach = ATTACH[descriptor.kind];
  if (attach === undefined) throw new Error(`Unknown kind of device "${descriptor.kind}"`);
  return attach(descriptor, services);
}

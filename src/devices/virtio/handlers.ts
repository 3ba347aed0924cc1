/**
 * Which handler serves which kind of virtio device: a row per kind.
 *
 * L4, I/O Worker. Handlers know ports only; the Worker (L5) brings the back-ends that implement them.
 */
import type { HandlerFactory } from "@vmm/virtio/device.ts";
import type { ByteSource } from "@vmm/virtio/ports/bytes.ts";
import { createRngHandler } from "./rng/handler.ts";

/** Makes working ports of the plain back-end descriptions main sends. Each is called at activation. */
export interface DevicePorts {
  byteSource(backend: unknown): ByteSource;
}

/** The table, keyed by `VirtioDeviceDescriptor.kind`. */
export function deviceHandlers(ports: DevicePorts): Readonly<Record<string, HandlerFactory>> {
  return {
    rng: (activation) => createRngHandler(activation, ports.byteSource(activation.backend)),
  };
}

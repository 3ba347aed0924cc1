/**
 * What main does with a running VM's disks: locks their images, changes their size.
 *
 * L5, main isolate. Chains are the original's. Source: rest-api page §4 "vm.resize-disk".
 */
import { Errno } from "@ffi/abi/errno.ts";
import { resizeFailed } from "@vmm/backends/disk/open.ts";
import { setCapacity } from "@vmm/devices/virtio/block/model.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import { attachVirtioPci } from "@vmm/virtio/pci/block.ts";
import { CONFIG_CHANGED } from "@vmm/virtio/runner.ts";
import type { IoThreads } from "./io_threads.ts";
import type { PlacedDevice } from "./pci_topology.ts";
import type { PluggedDisk } from "./plug/disk.ts";
import type { PluggedDevice } from "./plug/plugged_device.ts";
import type { VmDevices } from "./vm_devices.ts";

/** Locks the images of a VM that is about to boot. @throws ContextError when another VM holds one */
export function lockAtBoot(devices: VmDevices): void {
  try {
    devices.lockAll();
  } catch (cause) {
    throw new ContextError(["Error locking disk images: Another instance likely holds a lock"], cause);
  }
}

/** Locks the image of a disk that is plugged into a running VM; releases the disk if that fails. @throws ContextError */
export function lockAtPlug(device: PluggedDevice): void {
  try {
    device.lock?.();
  } catch (cause) {
    device.release();
    throw new ContextError(["Error from device manager"], cause);
  }
}

/** What an I/O Worker says of a resize. */
interface ResizeReply {
  readonly result: number;
  /** The driver has not started the device: it has yet to be told the capacity. */
  readonly idle?: boolean;
}

/** Changes the size of a disk's image, and the capacity the guest sees. @throws ContextError; nothing changed then */
export async function resizeDisk(placed: PlacedDevice, io: IoThreads, wantedBytes: bigint): Promise<void> {
  const { device, fn } = placed;
  const sizeBytes = Number(wantedBytes);
  const command = { kind: "resize", sizeBytes };
  const { result, idle } = Number.isSafeInteger(sizeBytes)
    ? await io.call<ResizeReply>("command", { id: device.id, command })
    : { result: -Errno.EFBIG };
  if (result < 0) {
    const { description } = (device as PluggedDisk).disk;
    throw new ContextError(
      ["Error from device manager", "Disk resize error"],
      resizeFailed(description, wantedBytes, result),
    );
  }
  if (!idle) return;
  setCapacity(attachVirtioPci(fn.block).deviceConfig, sizeBytes);
  // It may have been started meanwhile.
  await io.call("command", { id: device.id, command: { kind: CONFIG_CHANGED } });
}

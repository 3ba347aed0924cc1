/**
 * ivshmem: a file as memory the guest shares with whoever else maps it.
 *
 * L5, main isolate.
 */
import { close, O, open } from "@ffi/libc/fd.ts";
import { MAP, map, PROT, unmap } from "@ffi/libc/mmap.ts";
import type { IvshmemConfig } from "@schemas/api/assigned_device.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import type { MemoryWindows } from "../memory_windows.ts";
import type { PciTopology } from "../pci_topology.ts";

/** Id of the one such device. */
const IVSHMEM_ID = "__ivshmem";

/** Maps the file, shows it to the guest and puts the function on its bus; returns what undoes it. @throws ContextError */
export function plugIvshmem(
  config: IvshmemConfig,
  pci: PciTopology,
  windows: MemoryWindows,
  slot: number,
): () => void {
  const { pci_segment: segment } = config;
  const sizeBytes = Number(config.size);
  const undo: (() => void)[] = [];
  const release = () => undo.splice(0).reverse().forEach((step) => step());
  try {
    const fd = open(config.path, O.RDWR);
    undo.push(() => close(fd));
    const hostAddress = map(sizeBytes, PROT.READ | PROT.WRITE, MAP.SHARED, fd, 0);
    undo.push(() => unmap(hostAddress, sizeBytes));
    const base = windows.reserve(segment, sizeBytes, sizeBytes);
    if (base === undefined) throw new Error("Cannot find a memory range for shared memory");
    const kvmSlot = windows.show(base, sizeBytes, hostAddress);
    let baseNow = () => base;
    undo.push(() => windows.hide(kvmSlot, baseNow()));
    const memory = { base, sizeBytes, kvmSlot, hostAddress };
    baseNow = pci.addIvshmem(config.id ?? IVSHMEM_ID, segment, slot, memory);
    return release;
  } catch (cause) {
    release();
    throw new ContextError(["Error from device manager", "Cannot create ivshmem device"], cause);
  }
}

/**
 * virtio-pmem: a file in the guest's address space.
 *
 * L5, main isolate.
 */
import { close } from "@ffi/libc/fd.ts";
import type { PmemConfig } from "@schemas/api/virtio_devices.ts";
import {
  mapPmemFile,
  openPmemFile,
  PMEM_ALIGNMENT_BYTES,
  type PmemFile,
  unmapPmemFile,
} from "@vmm/backends/pmem/open.ts";
import { pmemModel } from "@vmm/devices/virtio/pmem/model.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import type { MemoryWindows } from "../memory_windows.ts";
import { placementOf, type PluggedDevice } from "./plugged_device.ts";

/** What the I/O Worker needs of the file. */
export interface PmemBackend {
  readonly fd: number;
}

/** Opens the file, gives it to the guest and describes the device. @throws ContextError with the original's words */
export function plugPmem(config: PmemConfig, id: string, windows: MemoryWindows): PluggedDevice {
  try {
    const { file: path, size, discard_writes: discardWrites } = config;
    const file = openPmemFile({ file: path, size, discardWrites });
    return describe(config, id, windows, file);
  } catch (cause) {
    throw new ContextError(["Error from device manager"], cause);
  }
}

function describe(config: PmemConfig, id: string, windows: MemoryWindows, file: PmemFile): PluggedDevice {
  const { pci_segment: segment, discard_writes: discardWrites } = config;
  const { fd, sizeBytes } = file;
  const undo: (() => void)[] = [() => close(fd)];
  const release = () => undo.splice(0).reverse().forEach((step) => step());
  try {
    const base = windows.reserve(segment, sizeBytes, PMEM_ALIGNMENT_BYTES);
    if (base === undefined) throw new Error("Cannot find a memory range for persistent memory");
    undo.push(() => windows.free(segment, base));
    const hostAddress = mapPmemFile(file, discardWrites);
    undo.push(() => unmapPmemFile(file, hostAddress));
    const slot = windows.show(base, sizeBytes, hostAddress);
    undo.push(() => windows.hide(slot, base));
    const backend: PmemBackend = { fd };
    return {
      id,
      kind: "pmem",
      placement: placementOf(config),
      model: pmemModel({ start: base, sizeBytes, iommu: config.iommu }),
      backend,
      resources: [{ MmioAddressRange: { base: BigInt(base), size: BigInt(sizeBytes) } }],
      config: { ...config, id },
      warnings: [],
      release,
    };
  } catch (error) {
    release();
    throw error;
  }
}

/**
 * Inter-VM shared memory: a PCI function with a file's memory behind BAR 2 and registers that do nothing.
 *
 * L4: `IvshmemRegisters` runs in vCPU Workers. As in the original there are no doorbells and no interrupts.
 * Source: QEMU docs/specs/ivshmem-spec.rst; spec/machine-model.md §8 "ivshmem".
 */
import type { IoDevice } from "@vmm/bus/io_device.ts";

/** PCI identity and BARs. */
export const IVSHMEM_PCI = {
  vendorId: 0x1af4,
  deviceId: 0x1110,
  revision: 1,
  classCode: 0x05,
  subclass: 0x00,
  registersBar: 0,
  registersBytes: 256,
  memoryBar: 2,
} as const;

/** BAR 0: interrupt mask and status, this VM's position and the doorbell, all zero. */
export class IvshmemRegisters implements IoDevice {
  read(): number {
    return 0;
  }

  write(): void {}
}

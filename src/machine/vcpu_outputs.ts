/**
 * Where a vCPU's printed bytes go: the back-ends main opened, written from the vCPU's own thread.
 *
 * L5, vCPU Worker.
 */
import { signalEvent } from "@ffi/libc/io.ts";
import { ByteOutput } from "@vmm/backends/chardev/byte_output.ts";
import { ChardevBlock } from "@vmm/backends/chardev/chardev_block.ts";
import type { ChardevDescriptor } from "@vmm/backends/chardev/open_chardev.ts";
import type { ByteSink } from "@vmm/bus/ports.ts";
import type { VcpuOutputs } from "./vcpu_machine.ts";

/** Back-ends of the ports that print; absent: the bytes go nowhere. */
export interface VcpuOutputDescription {
  readonly serial?: ChardevDescriptor;
  readonly debugConsole?: ChardevDescriptor;
  readonly firmwareDebug?: ChardevDescriptor;
}

const NOWHERE: ByteSink = { put() {} };

/** Byte sinks over the back-ends. */
export function createVcpuOutputs(description: VcpuOutputDescription, ioWakeFd: number): VcpuOutputs {
  const wake = { wake: () => signalEvent(ioWakeFd) };
  const sink = (descriptor?: ChardevDescriptor): ByteSink =>
    descriptor === undefined
      ? NOWHERE
      : new ByteOutput(ChardevBlock.attach(descriptor.block), wake, descriptor.blocking);
  return {
    serial: sink(description.serial),
    debugConsole: sink(description.debugConsole),
    firmwareDebug: sink(description.firmwareDebug),
  };
}

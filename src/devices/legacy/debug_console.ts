/**
 * Debug consoles of one byte-wide port: what is written goes to a sink, what is read tells that it is there.
 *
 * L4, runs in vCPU Workers. The firmware's port 0x402 and the Bochs-style console (0xe9 unless configured) are the same
 * device. Source: spec/machine-model.md §2.
 */
import type { IoDevice } from "@vmm/bus/io_device.ts";
import type { ByteSink } from "@vmm/bus/ports.ts";

/** Where firmware prints; its bytes go to the VMM's standard output. */
export const FIRMWARE_DEBUG_PORT = 0x402;

/** What a read gives: firmware looks for its port by it, the debug console is write-only. */
export const FIRMWARE_DEBUG_PRESENT = 0xe9;
export const DEBUG_CONSOLE_READ = 0;

/** One port, one byte. */
export class DebugConsole implements IoDevice {
  constructor(private readonly output: ByteSink, private readonly readBack = FIRMWARE_DEBUG_PRESENT) {}

  read(_offset: number, size: number): number {
    return size === 1 ? this.readBack : 0;
  }

  write(_offset: number, size: number, value: number): void {
    if (size === 1) this.output.put(value);
  }
}

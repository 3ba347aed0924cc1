/**
 * What is left of the keyboard controller: a status that never waits, and the reset command.
 *
 * L4, runs in vCPU Workers. Source: spec/machine-model.md §2 (ports 0x61–0x64).
 */
import type { IoDevice } from "@vmm/bus/io_device.ts";
import type { PowerControl } from "./power_control.ts";

/** First port and number of ports. */
export const I8042_PORT = 0x61;
export const I8042_PORT_COUNT = 4;

/** Offsets from port 0x61. */
const PORT_B = 0;
const COMMAND_STATUS = 3;
/** Timer 2 output: loops that wait for it end at once. */
const PORT_B_TIMER2_OUT = 0x20;
const STATUS_EMPTY = 0;
const COMMAND_RESET_CPU = 0xfe;

/** Ports 0x61 to 0x64. */
export class I8042 implements IoDevice {
  constructor(private readonly power: PowerControl) {}

  read(offset: number, size: number): number {
    if (size === 1 && offset === PORT_B) return PORT_B_TIMER2_OUT;
    if (size === 1 && offset === COMMAND_STATUS) return STATUS_EMPTY;
    return 0;
  }

  write(offset: number, size: number, value: number): void {
    if (size === 1 && offset === COMMAND_STATUS && value === COMMAND_RESET_CPU) this.power.reset();
  }
}

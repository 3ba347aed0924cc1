/**
 * ACPI sleep control, sleep status and reset register in one port.
 *
 * L4, runs in vCPU Workers. Source: ACPI 6.3 §4.8.3.7 (sleep control), §4.8.3.6 (reset); spec/machine-model.md §2.
 */
import type { IoDevice } from "@vmm/bus/io_device.ts";
import type { PowerControl } from "./power_control.ts";

const RESET_VALUE = 1;
/** Sleep type of `_S5_`, with SLP_EN. */
const SLP_TYP_SHIFT = 2;
const SLP_EN = 1 << 5;
const S5 = 5;
const POWER_OFF_VALUE = (S5 << SLP_TYP_SHIFT) | SLP_EN;

/** Port 0x600: one byte. */
export class AcpiShutdown implements IoDevice {
  constructor(private readonly power: PowerControl) {}

  read(): number {
    return 0;
  }

  write(_offset: number, _size: number, value: number): void {
    const command = value & 0xff;
    if (command === RESET_VALUE) this.power.reset();
    else if (command === POWER_OFF_VALUE) this.power.powerOff();
  }
}

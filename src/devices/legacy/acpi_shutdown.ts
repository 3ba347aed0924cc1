/**
 * ACPI sleep control, sleep status and reset register in one port.
 *
 * L4, runs in vCPU Workers. Source: ACPI 6.3 §4.8.3.7 (sleep control), §4.8.3.6 (reset); spec/machine-model.md §2.
 */
import { S5_SLEEP_TYPE } from "@vmm/arch/x86_64/acpi/platform_values.ts";
import type { IoDevice } from "@vmm/bus/io_device.ts";
import type { PowerControl } from "./power_control.ts";

/** How many ports answer. */
export const ACPI_SHUTDOWN_PORT_COUNT = 4;

const RESET_VALUE = 1;
/** The sleep control register. */
const SLP_TYP_SHIFT = 2;
const SLP_EN = 1 << 5;
const POWER_OFF_VALUE = (S5_SLEEP_TYPE << SLP_TYP_SHIFT) | SLP_EN;

/** Ports from 0x600 on: all four are the one register, in bytes only. */
export class AcpiShutdown implements IoDevice {
  constructor(private readonly power: PowerControl) {}

  read(): number {
    return 0;
  }

  write(_offset: number, size: number, value: number): void {
    if (size !== 1) return;
    if (value === RESET_VALUE) this.power.reset();
    else if (value === POWER_OFF_VALUE) this.power.powerOff();
  }
}

/**
 * DSDT: the order of its objects.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §9.
 */
import { amlBytes } from "./aml/encode.ts";
import { cpuObjects } from "./dsdt_cpu.ts";
import { memoryObjects } from "./dsdt_memory.ts";
import { hostBridge, motherboard, pciHotplugController } from "./dsdt_pci.ts";
import {
  eventController,
  eventDevice,
  firmwareConfig,
  powerButton,
  serialPort,
  sleepStates,
  tpmDevice,
} from "./dsdt_platform.ts";
import type { AcpiMachine } from "./machine.ts";
import { type AcpiTable, sdt } from "./sdt.ts";

const REVISION = 6;

/** Differentiated System Description Table. */
export function dsdt(machine: AcpiMachine): AcpiTable {
  return sdt(
    { signature: "DSDT", revision: REVISION, oemTableId: "CHDSDT" },
    amlBytes([
      pciHotplugController(machine),
      ...machine.segments.map((windows) => hostBridge(machine, windows)),
      motherboard(machine),
      ...(machine.fwCfg ? [firmwareConfig()] : []),
      ...(machine.serial ? [serialPort()] : []),
      sleepStates(),
      powerButton(),
      ...(machine.tpm ? [tpmDevice()] : []),
      eventController(machine),
      eventDevice(),
      ...cpuObjects(machine),
      memoryObjects(machine),
    ].join("")),
  );
}

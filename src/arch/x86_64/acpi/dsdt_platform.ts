/**
 * DSDT: serial port, fw_cfg, TPM, power states, power button, generic event controller.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §4, §9; ACPI 6.5 §5.6.9 (generic event device), §7.4.2.
 */
import {
  COM1_IRQ,
  COM1_PORT,
  COM1_PORT_COUNT,
  FW_CFG_PORT,
  FW_CFG_PORT_COUNT,
  GED_IRQ,
  TPM_SIZE,
  TPM_START,
} from "@vmm/arch/x86_64/layout.ts";
import { type Aml, eisaId, integer, packageOf, path, string } from "./aml/encode.ts";
import { edgeInterrupt, ioPorts, memory32Fixed, memoryWindow, resourceTemplate } from "./aml/resources.ts";
import {
  and,
  call,
  device,
  equal,
  field,
  ifThen,
  local,
  memoryRegion,
  method,
  name,
  notify,
  store,
  ZERO,
} from "./aml/terms.ts";
import type { AcpiMachine } from "./machine.ts";
import { GedNotification, S5_SLEEP_TYPE } from "./platform_values.ts";

const NOTIFY_POWER_BUTTON = 0x80;

/** `_SB_.COM1` */
export function serialPort(): Aml {
  return device(
    "_SB_.COM1",
    name("_HID", eisaId("PNP0501")),
    name("_UID", ZERO),
    name("_DDN", string("COM1")),
    name("_CRS", resourceTemplate(edgeInterrupt(COM1_IRQ), ioPorts(COM1_PORT, COM1_PORT_COUNT, 0))),
  );
}

/** `_SB_.FWCF` */
export function firmwareConfig(): Aml {
  return device(
    "_SB_.FWCF",
    name("_HID", string("QEMU0002")),
    name("_STA", integer(0x0b)),
    name("_CRS", resourceTemplate(ioPorts(FW_CFG_PORT, FW_CFG_PORT_COUNT, 1))),
  );
}

/** `TPM2`, at the root as the original has it. */
export function tpmDevice(): Aml {
  return device(
    "TPM2",
    name("_HID", string("MSFT0101")),
    name("_STA", integer(0x0f)),
    name("_CRS", resourceTemplate(memory32Fixed(TPM_START, TPM_SIZE))),
  );
}

/** `_S5_`: soft off. */
export function sleepStates(): Aml {
  return name("_S5_", packageOf(integer(S5_SLEEP_TYPE), integer(S5_SLEEP_TYPE), ZERO, ZERO));
}

/** `_SB_.PWRB` */
export function powerButton(): Aml {
  return device("_SB_.PWRB", name("_HID", eisaId("PNP0C0C")), name("_UID", ZERO));
}

/** `_SB_.GEC_`: reads the notification byte once and passes each event on. */
export function eventController(machine: AcpiMachine): Aml {
  const { genericEvent } = machine.controllers;
  const onBit = (bit: number, action: Aml) => [
    and(local(0), integer(bit), local(1)),
    ifThen(equal(local(1), integer(bit)), action),
  ];
  return device(
    "_SB_.GEC_",
    name("_HID", eisaId("PNP0A06")),
    name("_UID", string("Generic Event Controller")),
    name("_CRS", resourceTemplate(memoryWindow(genericEvent))),
    memoryRegion("GDST", genericEvent.gpa, genericEvent.sizeBytes),
    field("GDST", "byte", "writeAsZeros", ["GDAT", 8]),
    method(
      "ESCN",
      { serialized: true },
      store(path("GDAT"), local(0)),
      ...onBit(GedNotification.cpu, call("\\_SB_.CPUS.CSCN")),
      ...onBit(GedNotification.memory, call("\\_SB_.MHPC.MSCN")),
      ...onBit(GedNotification.pci, call("\\_SB_.PHPR.PSCN")),
      ...onBit(GedNotification.powerButton, notify(path("\\_SB_.PWRB"), integer(NOTIFY_POWER_BUTTON))),
    ),
  );
}

/** `_SB_.GED_`: the interrupt of the event controller. */
export function eventDevice(): Aml {
  return device(
    "_SB_.GED_",
    name("_HID", string("ACPI0013")),
    name("_UID", ZERO),
    name("_CRS", resourceTemplate(edgeInterrupt(GED_IRQ))),
    method("_EVT", { args: 1, serialized: true }, call("\\_SB_.GEC_.ESCN")),
  );
}

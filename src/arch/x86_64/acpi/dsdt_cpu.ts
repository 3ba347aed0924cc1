/**
 * DSDT: CPU hot-plug controller and processor devices.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §4, §9; ACPI 6.5 §8.4, §6.2.11 (_MAT).
 */
import { x2apicId } from "@vmm/arch/x86_64/topology.ts";
import { type Aml, buffer, bytesAml, eisaId, integer, path, string } from "./aml/encode.ts";
import { memoryWindow, resourceTemplate } from "./aml/resources.ts";
import {
  acquire,
  arg,
  call,
  device,
  field,
  memoryRegion,
  method,
  mutex,
  name,
  ONE,
  release,
  returnValue,
  store,
} from "./aml/terms.ts";
import { notifyMethod, scanMethod, statusMethod } from "./hotplug_methods.ts";
import { type AcpiMachine, nodeOfCpu } from "./machine.ts";
import { MADT_ENABLED, x2apicEntry } from "./madt.ts";

const CONTROLLER = {
  mutex: "\\_SB_.PRES.CPLK",
  selected: "\\_SB_.PRES.CSEL",
  enabled: "\\_SB_.PRES.CPEN",
  inserted: "\\_SB_.PRES.CINS",
  removing: "\\_SB_.PRES.CRMV",
} as const;

const processorName = (cpu: number) => `C${cpu.toString(16).toUpperCase().padStart(3, "0")}`;

/** `_SB_.PRES`: the controller's registers. */
function controller(machine: AcpiMachine): Aml {
  const { cpuHotplug } = machine.controllers;
  return device(
    "_SB_.PRES",
    name("_HID", eisaId("PNP0A06")),
    name("_UID", string("CPU Hotplug Controller")),
    mutex("CPLK"),
    name("_CRS", resourceTemplate(memoryWindow(cpuHotplug))),
    memoryRegion("PRST", cpuHotplug.gpa, cpuHotplug.sizeBytes),
    field(
      "PRST",
      "byte",
      "writeAsZeros",
      [null, 32],
      ["CPEN", 1],
      ["CINS", 1],
      ["CRMV", 1],
      ["CEJ0", 1],
      [null, 4],
      ["CCMD", 8],
    ),
    field("PRST", "dword", "preserve", ["CSEL", 32], [null, 32], ["CDAT", 32]),
  );
}

/** Everything that selects a CPU at the controller. */
function controlMethods(cpus: readonly number[]): Aml[] {
  return [
    statusMethod("CSTA", CONTROLLER),
    notifyMethod("CTFY", cpus.map(processorName)),
    method(
      "CEJ0",
      { args: 1, serialized: true },
      acquire(CONTROLLER.mutex),
      store(arg(0), path(CONTROLLER.selected)),
      store(ONE, path("\\_SB_.PRES.CEJ0")),
      release(CONTROLLER.mutex),
    ),
    scanMethod("CSCN", CONTROLLER, "CTFY", cpus.length),
  ];
}

function processor(machine: AcpiMachine, cpu: number): Aml {
  return device(
    processorName(cpu),
    name("_HID", string("ACPI0007")),
    name("_UID", integer(cpu)),
    method("_STA", {}, returnValue(call("CSTA", integer(cpu)))),
    method("_PXM", {}, returnValue(integer(nodeOfCpu(machine, cpu)))),
    name("_MAT", buffer(bytesAml(x2apicEntry(cpu, x2apicId(cpu, machine.topology), MADT_ENABLED)))),
    method("_EJ0", { args: 1 }, call("CEJ0", integer(cpu))),
  );
}

/** `_SB_.PRES` and `_SB_.CPUS`. */
export function cpuObjects(machine: AcpiMachine): Aml[] {
  const cpus = Array.from({ length: machine.maxVcpus }, (_, cpu) => cpu);
  return [
    controller(machine),
    device(
      "_SB_.CPUS",
      name("_HID", string("ACPI0010")),
      name("_CID", eisaId("PNP0A05")),
      ...controlMethods(cpus),
      ...cpus.map((cpu) => processor(machine, cpu)),
    ),
  ];
}

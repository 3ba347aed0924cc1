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
  add,
  arg,
  call,
  device,
  equal,
  field,
  ifThen,
  lessThan,
  local,
  memoryRegion,
  method,
  mutex,
  name,
  notify,
  ONE,
  release,
  returnValue,
  store,
  whileLoop,
  ZERO,
} from "./aml/terms.ts";
import { type AcpiMachine, nodeOfCpu } from "./machine.ts";
import { MADT_ENABLED, x2apicEntry } from "./madt.ts";

const NOTIFY_DEVICE_CHECK = ONE;
const NOTIFY_EJECT_REQUEST = integer(3);
/** Present, enabled, shown, functioning. */
const STATUS_PRESENT = integer(0x0f);

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

/** CSTA, CTFY, CEJ0 and CSCN: everything that selects a CPU at the controller, under its mutex. */
function controlMethods(cpus: readonly number[]): Aml[] {
  const select = (cpu: Aml) => store(cpu, path("\\_SB_.PRES.CSEL"));
  const lock = acquire("\\_SB_.PRES.CPLK");
  const unlock = release("\\_SB_.PRES.CPLK");
  const onFlag = (flag: string, event: Aml) =>
    ifThen(
      equal(path(`\\_SB_.PRES.${flag}`), ONE),
      call("CTFY", local(0), event),
      store(ONE, path(`\\_SB_.PRES.${flag}`)),
    );
  return [
    method(
      "CSTA",
      { args: 1, serialized: true },
      lock,
      select(arg(0)),
      store(ZERO, local(0)),
      ifThen(equal(path("\\_SB_.PRES.CPEN"), ONE), store(STATUS_PRESENT, local(0))),
      unlock,
      returnValue(local(0)),
    ),
    method(
      "CTFY",
      { args: 2, serialized: true },
      ...cpus.map((cpu) => ifThen(equal(arg(0), integer(cpu)), notify(path(processorName(cpu)), arg(1)))),
    ),
    method(
      "CEJ0",
      { args: 1, serialized: true },
      lock,
      select(arg(0)),
      store(ONE, path("\\_SB_.PRES.CEJ0")),
      unlock,
    ),
    method(
      "CSCN",
      { serialized: true },
      lock,
      store(ZERO, local(0)),
      whileLoop(
        lessThan(local(0), integer(cpus.length)),
        select(local(0)),
        onFlag("CINS", NOTIFY_DEVICE_CHECK),
        onFlag("CRMV", NOTIFY_EJECT_REQUEST),
        add(local(0), ONE, local(0)),
      ),
      unlock,
    ),
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

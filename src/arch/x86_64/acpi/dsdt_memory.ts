/**
 * DSDT: memory hot-plug controller and DIMM slots.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §4, §9; ACPI 6.5 §9.11 (memory devices), §6.4.3.5.1.
 */
import { HOTPLUG_SLOT_COUNT } from "@vmm/arch/x86_64/layout.ts";
import { type Aml, eisaId, integer, path, string } from "./aml/encode.ts";
import { memoryWindow, qwordMemory, resourceTemplate } from "./aml/resources.ts";
import {
  acquire,
  add,
  arg,
  call,
  createDwordField,
  createQwordField,
  device,
  field,
  ifThen,
  lessThan,
  memoryRegion,
  method,
  mutex,
  name,
  ONE,
  release,
  returnValue,
  store,
  subtract,
} from "./aml/terms.ts";
import { notifyMethod, scanMethod, statusMethod } from "./hotplug_methods.ts";
import type { AcpiMachine } from "./machine.ts";

/** Byte offsets of minimum, maximum and length in a QWord memory descriptor. */
const QWORD_FIELD = { min: 14, max: 22, length: 38 } as const;
const U64_MAX = 0xffff_ffff_ffff_ffffn;

const slotName = (slot: number) => `M${slot.toString().padStart(3, "0")}`;
const slots = Array.from({ length: HOTPLUG_SLOT_COUNT }, (_, slot) => slot);
const register = (registerName: string) => path(`\\_SB_.MHPC.${registerName}`);
const CONTROLLER = {
  mutex: "MLCK",
  selected: "\\_SB_.MHPC.MSEL",
  enabled: "\\_SB_.MHPC.MEN_",
  inserted: "\\_SB_.MHPC.MINS",
  removing: "\\_SB_.MHPC.MRMV",
} as const;

function registers(range: { gpa: number; sizeBytes: number }): Aml[] {
  return [
    mutex(CONTROLLER.mutex),
    name("_CRS", resourceTemplate(memoryWindow(range))),
    memoryRegion("MHPR", range.gpa, range.sizeBytes),
    field("MHPR", "dword", "preserve", ["MHBL", 32], ["MHBH", 32], ["MHLL", 32], ["MHLH", 32]),
    field("MHPR", "dword", "preserve", [null, 128], ["MHPX", 32]),
    field(
      "MHPR",
      "byte",
      "writeAsZeros",
      [null, 160],
      ["MEN_", 1],
      ["MINS", 1],
      ["MRMV", 1],
      ["MEJ0", 1],
    ),
    field("MHPR", "dword", "preserve", ["MSEL", 32], ["MOEV", 32], ["MOSC", 32]),
  ];
}

/** MCRS: a slot's range as one descriptor, put together from 32-bit halves because the registers are dwords. */
function resourcesMethod(): Aml {
  const halves = (prefix: string, offset: number) => [
    createQwordField(path("MR64"), offset, `${prefix}L`),
    createDwordField(path("MR64"), offset + 4, `${prefix}H`),
  ];
  return method(
    "MCRS",
    { args: 1, serialized: true },
    acquire(CONTROLLER.mutex),
    store(arg(0), register("MSEL")),
    name("MR64", resourceTemplate(qwordMemory(0, U64_MAX - 1n, U64_MAX, true))),
    ...halves("MIN", QWORD_FIELD.min),
    ...halves("MAX", QWORD_FIELD.max),
    ...halves("LEN", QWORD_FIELD.length),
    store(register("MHBL"), path("MINL")),
    store(register("MHBH"), path("MINH")),
    store(register("MHLL"), path("LENL")),
    store(register("MHLH"), path("LENH")),
    add(path("MINL"), path("LENL"), path("MAXL")),
    add(path("MINH"), path("LENH"), path("MAXH")),
    ifThen(lessThan(path("MAXL"), path("MINL")), add(ONE, path("MAXH"), path("MAXH"))),
    subtract(path("MAXL"), ONE, path("MAXL")),
    release(CONTROLLER.mutex),
    returnValue(path("MR64")),
  );
}

function slotDevice(slot: number): Aml {
  return device(
    slotName(slot),
    name("_HID", eisaId("PNP0C80")),
    name("_UID", integer(slot)),
    method("_STA", {}, returnValue(call("MSTA", integer(slot)))),
    method("_CRS", {}, returnValue(call("MCRS", integer(slot)))),
  );
}

/** `_SB_.MHPC`; without a controller only the method the event controller calls. */
export function memoryObjects(machine: AcpiMachine): Aml {
  const range = machine.controllers.memoryHotplug;
  const identity = [
    name("_HID", eisaId("PNP0A06")),
    name("_UID", string("Memory Hotplug Controller")),
  ];
  if (range === undefined) {
    return device("_SB_.MHPC", ...identity, method("MSCN", { serialized: true }));
  }
  return device(
    "_SB_.MHPC",
    ...identity,
    ...registers(range),
    notifyMethod("MTFY", slots.map(slotName)),
    scanMethod("MSCN", CONTROLLER, "MTFY", slots.length),
    statusMethod("MSTA", CONTROLLER),
    resourcesMethod(),
    ...slots.map(slotDevice),
  );
}

/**
 * DSDT: PCI hot-plug controller, one host bridge per segment, motherboard resources.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §4, §5, §9; PCI Firmware 3.3 §4.6.5 (preserve boot configuration).
 */
import {
  PCI_CONFIG_PORT,
  PCI_CONFIG_PORT_COUNT,
  PCI_IRQ_BASE,
  PCI_IRQ_COUNT,
  PCI_SLOTS_PER_SEGMENT,
  type SegmentWindows,
} from "@vmm/arch/x86_64/layout.ts";
import { type Aml, buffer, eisaId, integer, op, packageOf, path, string, uuid } from "./aml/encode.ts";
import {
  ioPorts,
  memory32Fixed,
  memoryWindow,
  resourceTemplate,
  wordBusNumber,
  wordIo,
} from "./aml/resources.ts";
import {
  acquire,
  and,
  arg,
  call,
  device,
  equal,
  field,
  ifThen,
  local,
  memoryRegion,
  method,
  mutex,
  name,
  notify,
  ONE,
  release,
  returnValue,
  shiftLeft,
  store,
  ZERO,
} from "./aml/terms.ts";
import { type AcpiMachine, nodeOfSegment } from "./machine.ts";

const PRESERVE_CONFIG_UUID = "e5c937d0-3553-4d7a-9117-ea4d19c3434d";
/** _DSM functions 0 and 5 exist. */
const DSM_FUNCTIONS = (1 << 0) | (1 << 5);
const DSM_PRESERVE_BOOT_CONFIG = 5;

const NOTIFY_DEVICE_CHECK = 1;
const NOTIFY_EJECT_REQUEST = 3;

const bridgeName = (segment: number) => `PC${segment.toString(16).toUpperCase().padStart(2, "0")}`;
const slotName = (slot: number) => `S${slot.toString().padStart(3, "0")}`;
const slots = Array.from({ length: PCI_SLOTS_PER_SEGMENT }, (_, slot) => slot);

/** `_SB_.PHPR`: registers through which slots are scanned and ejected. */
export function pciHotplugController(machine: AcpiMachine): Aml {
  const { pciHotplug } = machine.controllers;
  return device(
    "_SB_.PHPR",
    name("_HID", eisaId("PNP0A06")),
    name("_STA", integer(0x0b)),
    name("_UID", string("PCI Hotplug Controller")),
    mutex("BLCK"),
    name("_CRS", resourceTemplate(memoryWindow(pciHotplug))),
    memoryRegion("PCST", pciHotplug.gpa, pciHotplug.sizeBytes),
    field("PCST", "dword", "writeAsZeros", ["PCIU", 32], ["PCID", 32], ["B0EJ", 32], ["PSEG", 32]),
    method(
      "PCEJ",
      { args: 2, serialized: true },
      acquire("BLCK"),
      store(arg(1), path("PSEG")),
      shiftLeft(ONE, arg(0), path("B0EJ")),
      release("BLCK"),
      returnValue(ZERO),
    ),
    method(
      "PSCN",
      { serialized: true },
      ...machine.segments.map(({ segment }) => call(`\\_SB_.${bridgeName(segment)}.PCNT`)),
    ),
  );
}

function deviceSpecificMethod(): Aml {
  return method(
    "_DSM",
    { args: 4 },
    ifThen(
      equal(arg(0), uuid(PRESERVE_CONFIG_UUID)),
      ifThen(equal(arg(2), ZERO), returnValue(buffer(op(DSM_FUNCTIONS)))),
      ifThen(equal(arg(2), integer(DSM_PRESERVE_BOOT_CONFIG)), returnValue(ZERO)),
    ),
    returnValue(buffer(op(0))),
  );
}

function bridgeResources(windows: SegmentWindows): Aml {
  const common = [
    memory32Fixed(windows.ecam.gpa, windows.ecam.sizeBytes),
    memoryWindow(windows.window32),
    memoryWindow(windows.window64),
  ];
  const bus = wordBusNumber(0, 0);
  if (windows.segment !== 0) return resourceTemplate(bus, ...common);
  return resourceTemplate(
    bus,
    ioPorts(PCI_CONFIG_PORT, PCI_CONFIG_PORT_COUNT, 1),
    ...common,
    wordIo(0, PCI_CONFIG_PORT - 1),
    wordIo(PCI_CONFIG_PORT + PCI_CONFIG_PORT_COUNT, 0xffff),
  );
}

function slotDevice(slot: number): Aml {
  return device(
    slotName(slot),
    name("_SUN", integer(slot)),
    name("_ADR", integer(slot << 16)),
    method(
      "_EJ0",
      { args: 1, serialized: true },
      call("\\_SB_.PHPR.PCEJ", path("_SUN"), path("_SEG")),
    ),
  );
}

/** DVNT: tells the slots of a bitmap; the caller gives bitmap and event. */
function notifySlots(): Aml {
  return method(
    "DVNT",
    { args: 2, serialized: true },
    ...slots.flatMap((slot) => [
      and(arg(0), integer(2 ** slot), local(0)),
      ifThen(equal(local(0), integer(2 ** slot)), notify(path(slotName(slot)), arg(1))),
    ]),
  );
}

function interruptRouting(): Aml {
  const inta = ZERO;
  const routes = slots.map((slot) =>
    packageOf(
      integer(slot * 0x1_0000 + 0xffff),
      inta,
      ZERO,
      integer(PCI_IRQ_BASE + slot % PCI_IRQ_COUNT),
    )
  );
  return name("_PRT", packageOf(...routes));
}

/** `_SB_.PCnn`: the host bridge of one segment with its slots. */
export function hostBridge(machine: AcpiMachine, windows: SegmentWindows): Aml {
  const { segment } = windows;
  return device(
    `_SB_.${bridgeName(segment)}`,
    name("_HID", eisaId("PNP0A08")),
    name("_CID", eisaId("PNP0A03")),
    name("_ADR", ZERO),
    name("_SEG", integer(segment)),
    name("_UID", integer(segment)),
    name("_CCA", ONE),
    name("SUPP", ZERO),
    method("_PXM", {}, returnValue(integer(nodeOfSegment(machine, segment)))),
    deviceSpecificMethod(),
    name("_CRS", bridgeResources(windows)),
    ...slots.map(slotDevice),
    notifySlots(),
    method(
      "PCNT",
      { serialized: true },
      acquire("\\_SB_.PHPR.BLCK"),
      store(path("_SEG"), path("\\_SB_.PHPR.PSEG")),
      call("DVNT", path("\\_SB_.PHPR.PCIU"), integer(NOTIFY_DEVICE_CHECK)),
      call("DVNT", path("\\_SB_.PHPR.PCID"), integer(NOTIFY_EJECT_REQUEST)),
      release("\\_SB_.PHPR.BLCK"),
    ),
    interruptRouting(),
  );
}

/** `_SB_.MBRD`: reserves the configuration windows of all segments. */
export function motherboard(machine: AcpiMachine): Aml {
  return device(
    "_SB_.MBRD",
    name("_HID", eisaId("PNP0C02")),
    name("_UID", ZERO),
    name(
      "_CRS",
      resourceTemplate(...machine.segments.map(({ ecam }) => memory32Fixed(ecam.gpa, ecam.sizeBytes))),
    ),
  );
}

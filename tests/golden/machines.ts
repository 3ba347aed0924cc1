/**
 * Machines whose tables are compared: with the original's where it is at hand, with golden files everywhere.
 *
 * Tests only.
 */
import type { AcpiMachine, NumaNode, PciAddress } from "@vmm/arch/x86_64/acpi/machine.ts";
import {
  GIB,
  guestPhysBits,
  MIB,
  planControllers,
  planMemory,
  planSegments,
  type ZoneRequest,
} from "@vmm/arch/x86_64/layout.ts";
import type { SmbiosConfig } from "@vmm/arch/x86_64/smbios.ts";
import { resolveTopology } from "@vmm/arch/x86_64/topology.ts";

/** One machine, said twice: to our builders and to the original's command line. */
export interface MachineCase {
  readonly name: string;
  /** Arguments of the original beside kernel, console and serial. `{dir}` is a scratch directory with `disk.img`. */
  readonly args: readonly string[];
  readonly boot?: number;
  readonly max?: number;
  /** Threads, cores, dies, packages. */
  readonly topology?: readonly [number, number, number, number];
  readonly maxPhysBits?: number;
  readonly sizeBytes?: number;
  readonly zones?: readonly ZoneRequest[];
  readonly hotplugSizeBytes?: number;
  readonly hotplugMethod?: "Acpi" | "VirtioMem";
  /** Weights of the 32-bit and 64-bit windows, one pair per PCI segment. */
  readonly segments?: readonly (readonly [number, number])[];
  readonly serial?: boolean;
  readonly tpm?: boolean;
  readonly fwCfg?: boolean;
  readonly numaNodes?: readonly NumaNode[];
  readonly iommu?: AcpiMachine["iommu"];
  readonly smbios?: SmbiosConfig;
  readonly cmdline?: string;
  readonly initramfsBytes?: number;
  readonly kernel?: "elf" | "bzimage";
  /** Too large for a golden file, or nothing new in it. */
  readonly withoutGolden?: boolean;
}

const DEFAULT_SIZE_BYTES = 128 * MIB;
const DEFAULT_MAX_PHYS_BITS = 46;
/** Address bits the golden files assume of the host. */
export const GOLDEN_HOST_PHYS_BITS = 48;

/** The machine of a case on a host with so many physical address bits. */
export function machineOf(test: MachineCase, hostPhysBits: number): AcpiMachine {
  const virtioMem = test.hotplugMethod === "VirtioMem";
  const zones = test.zones ?? [{
    id: "mem0",
    sizeBytes: test.sizeBytes ?? DEFAULT_SIZE_BYTES,
    hotplugSizeBytes: virtioMem ? test.hotplugSizeBytes : undefined,
  }];
  const memory = planMemory({
    zones,
    userZones: test.zones !== undefined,
    hotplugMethod: test.hotplugMethod,
    hotplugSizeBytes: test.hotplugSizeBytes,
    physBits: guestPhysBits(hostPhysBits, test.maxPhysBits ?? DEFAULT_MAX_PHYS_BITS),
  });
  const boot = test.boot ?? 1;
  const topology = test.topology && {
    threadsPerCore: test.topology[0],
    coresPerDie: test.topology[1],
    diesPerPackage: test.topology[2],
    packages: test.topology[3],
  };
  return {
    bootVcpus: boot,
    maxVcpus: test.max ?? boot,
    topology: resolveTopology(topology, boot),
    memory,
    segments: planSegments(
      memory,
      (test.segments ?? [[1, 1]]).map(([mmio32, mmio64]) => ({ mmio32, mmio64 })),
    ),
    controllers: planControllers(memory),
    serial: test.serial ?? true,
    tpm: test.tpm,
    fwCfg: test.fwCfg,
    numaNodes: test.numaNodes,
    iommu: test.iommu,
  };
}

const memory = (options: string) => ["--memory", `size=${options},shared=on`];
const cpus = (options: string) => ["--cpus", options, ...memory("128M")];
const zone = (id: string, size: string, more = "") => `id=${id},size=${size},shared=on${more}`;
const allSlots = (segment: number): PciAddress[] =>
  Array.from({ length: 32 }, (_, slot) => ({ segment, bdf: slot << 3 }));

/** The machines. */
export const MACHINES: readonly MachineCase[] = [
  { name: "plain", args: memory("128M") },
  { name: "four-cpus", boot: 4, args: cpus("boot=4") },
  { name: "cpu-hotplug", boot: 2, max: 4, args: cpus("boot=2,max=4") },
  { name: "cpu-hotplug-uneven", boot: 3, max: 8, args: cpus("boot=3,max=8"), withoutGolden: true },
  { name: "topology", boot: 8, topology: [2, 2, 1, 2], args: cpus("boot=8,topology=2:2:1:2") },
  {
    name: "topology-uneven",
    boot: 12,
    topology: [1, 3, 2, 2],
    args: cpus("boot=12,topology=1:3:2:2"),
    withoutGolden: true,
  },
  {
    name: "topology-hotplug",
    boot: 4,
    max: 16,
    topology: [2, 2, 2, 2],
    args: cpus("boot=4,max=16,topology=2:2:2:2"),
    withoutGolden: true,
  },
  { name: "three-hundred-cpus", boot: 300, args: cpus("boot=300"), withoutGolden: true },
  { name: "max-cpus", max: 1024, args: cpus("boot=1,max=1024"), withoutGolden: true },
  { name: "phys-bits-36", maxPhysBits: 36, args: cpus("boot=1,max_phys_bits=36"), withoutGolden: true },
  { name: "no-serial", serial: false, args: memory("128M") },
  {
    name: "weighted-segments",
    segments: [[1, 1], [3, 5], [1, 1]],
    args: [
      "--platform",
      "num_pci_segments=3",
      "--pci-segment",
      "pci_segment=1,mmio32_aperture_weight=3,mmio64_aperture_weight=5",
      ...memory("128M"),
    ],
  },
  {
    name: "ninety-six-segments",
    segments: Array.from({ length: 96 }, () => [1, 1] as const),
    args: ["--platform", "num_pci_segments=96", ...memory("128M")],
    withoutGolden: true,
  },
  { name: "above-4g", sizeBytes: 5001 * MIB, args: memory("5001M"), withoutGolden: true },
  {
    name: "acpi-hotplug",
    sizeBytes: 130 * MIB,
    hotplugSizeBytes: GIB,
    args: memory("130M,hotplug_size=1G"),
  },
  {
    name: "acpi-hotplug-above-4g",
    sizeBytes: 5001 * MIB,
    hotplugSizeBytes: GIB,
    args: memory("5001M,hotplug_size=1G"),
    withoutGolden: true,
  },
  {
    name: "acpi-hotplug-zones",
    zones: [{ id: "a", sizeBytes: 512 * MIB }],
    hotplugSizeBytes: GIB,
    args: ["--memory", "size=0,hotplug_size=1G", "--memory-zone", zone("a", "512M")],
    withoutGolden: true,
  },
  {
    name: "virtio-mem",
    sizeBytes: 130 * MIB,
    hotplugSizeBytes: GIB,
    hotplugMethod: "VirtioMem",
    args: memory("130M,hotplug_size=1G,hotplug_method=virtio-mem"),
    withoutGolden: true,
  },
  {
    name: "numa",
    boot: 3,
    max: 4,
    segments: [[1, 1], [1, 1]],
    hotplugMethod: "VirtioMem",
    zones: [
      { id: "a", sizeBytes: 2 * GIB },
      { id: "b", sizeBytes: 2 * GIB, hotplugSizeBytes: GIB },
      { id: "c", sizeBytes: 128 * MIB },
    ],
    numaNodes: [
      { id: 7, cpus: [1], memoryZones: ["b"] },
      {
        id: 2,
        cpus: [3],
        memoryZones: ["c", "a"],
        distances: [{ destination: 7, distance: 33 }],
        pciSegments: [1],
      },
      { id: 0, cpus: [0] },
    ],
    args: [
      ...["--cpus", "boot=3,max=4", "--platform", "num_pci_segments=2"],
      ...["--memory", "size=0,hotplug_method=virtio-mem"],
      ...["--memory-zone", zone("a", "2G"), zone("b", "2G", ",hotplug_size=1G"), zone("c", "128M")],
      "--numa",
      "guest_numa_id=7,cpus=[1],memory_zones=[b]",
      "guest_numa_id=2,cpus=[3],memory_zones=[c,a],distances=[7@33],pci_segments=[1]",
      "guest_numa_id=0,cpus=[0]",
    ],
  },
  {
    name: "numa-growable-zones",
    boot: 2,
    hotplugMethod: "VirtioMem",
    zones: [
      { id: "a", sizeBytes: 256 * MIB, hotplugSizeBytes: GIB },
      { id: "b", sizeBytes: 128 * MIB, hotplugSizeBytes: GIB },
      { id: "c", sizeBytes: 128 * MIB },
    ],
    numaNodes: [
      { id: 3, cpus: [1, 0], memoryZones: ["b", "a"] },
      { id: 0, memoryZones: ["c"], distances: [{ destination: 3, distance: 12 }] },
    ],
    args: [
      ...["--cpus", "boot=2", "--memory", "size=0,hotplug_method=virtio-mem", "--memory-zone"],
      ...[zone("a", "256M", ",hotplug_size=1G"), zone("b", "128M", ",hotplug_size=1G"), zone("c", "128M")],
      ...["--numa", "guest_numa_id=3,cpus=[1,0],memory_zones=[b,a]"],
      "guest_numa_id=0,memory_zones=[c],distances=[3@12]",
    ],
    withoutGolden: true,
  },
  {
    name: "numa-cpus-only",
    boot: 2,
    hotplugSizeBytes: GIB,
    numaNodes: [{ id: 0, cpus: [0, 1] }],
    args: ["--cpus", "boot=2", ...memory("128M,hotplug_size=1G"), "--numa", "guest_numa_id=0,cpus=[0,1]"],
    withoutGolden: true,
  },
  {
    // On slot 0 only: elsewhere the original doubles each byte of the function's number, against ACPI 6.5 table 5.66.
    name: "numa-device",
    boot: 2,
    segments: [[1, 1], [1, 1]],
    zones: [{ id: "a", sizeBytes: 128 * MIB }],
    numaNodes: [
      { id: 0, cpus: [0, 1], memoryZones: ["a"] },
      { id: 1, device: { segment: 1, bdf: 0 } },
    ],
    args: [
      ...["--cpus", "boot=2", "--platform", "num_pci_segments=2"],
      ...["--memory", "size=0", "--memory-zone", zone("a", "128M")],
      ...["--disk", "path={dir}/disk.img,id=dd,image_type=raw,pci_segment=1"],
      ...["--numa", "guest_numa_id=0,cpus=[0,1],memory_zones=[a]", "guest_numa_id=1,device_id=dd"],
    ],
  },
  { name: "tpm", tpm: true, args: ["--tpm", "socket={dir}/tpm.sock", ...memory("128M")] },
  {
    name: "fw-cfg",
    fwCfg: true,
    cmdline: "x",
    args: [
      "--fw-cfg-config",
      "e820=on,kernel=on,cmdline=on,initramfs=off,acpi_table=on",
      ...memory("128M"),
    ],
  },
  {
    name: "iommu",
    iommu: { device: { segment: 0, bdf: 0x10 }, endpoints: [{ segment: 0, bdf: 0x08 }] },
    args: ["--rng", "src=/dev/urandom,iommu=on", ...memory("128M")],
  },
  {
    name: "iommu-segments",
    segments: [[1, 1], [1, 1], [1, 1]],
    iommu: { device: { segment: 0, bdf: 0x08 }, endpoints: [...allSlots(1), ...allSlots(2)] },
    args: [
      ...["--platform", "num_pci_segments=3,iommu_segments=[1,2]"],
      ...["--rng", "src=/dev/urandom,iommu=on,pci_segment=1", ...memory("128M")],
    ],
    withoutGolden: true,
  },
  {
    name: "smbios-strings",
    smbios: {
      manufacturer: "ACME",
      productName: "P",
      version: "1.0",
      serialNumber: "abc",
      uuid: "01234567-89ab-cdef-0123-456789abcdef",
      skuNumber: "SKU",
      family: "fam",
      chassisAssetTag: "TAG",
      oemStrings: ["a", "bb"],
    },
    args: [
      "--platform",
      "system_manufacturer=ACME,system_product_name=P,system_version=1.0,system_serial_number=abc," +
      "system_uuid=01234567-89ab-cdef-0123-456789abcdef,system_sku_number=SKU,system_family=fam," +
      "chassis_asset_tag=TAG,oem_strings=[a,bb]",
      ...memory("128M"),
    ],
  },
  {
    name: "smbios-some-strings",
    smbios: { serialNumber: "abc", uuid: "urn:uuid:01234567-89ab-cdef-0123-456789abcdef", oemStrings: ["x"] },
    args: [
      "--platform",
      "system_serial_number=abc,system_uuid=urn:uuid:01234567-89ab-cdef-0123-456789abcdef,oem_strings=[x]",
      ...memory("128M"),
    ],
    withoutGolden: true,
  },
  {
    name: "initramfs",
    cmdline: "console=ttyS0 quiet panic=-1",
    initramfsBytes: 1_984_512,
    args: memory("128M"),
  },
  {
    name: "bzimage",
    kernel: "bzimage",
    cmdline: "console=ttyS0",
    initramfsBytes: 4097,
    sizeBytes: 5001 * MIB,
    args: memory("5001M"),
  },
];

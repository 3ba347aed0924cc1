/**
 * SMBIOS entry point and structures below 1 MiB.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §6; DSP0134 (SMBIOS 3.2) §5.2.2, §6.1.2, §7.1, §7.2, §7.4, §7.12.
 */
import type { GuestBlob } from "./boot_cpu.ts";
import { ByteWriter, checksum8 } from "./byte_writer.ts";
import { type ArchError, chainedError } from "./errors.ts";
import { HIGH_RAM_START, SMBIOS_START } from "./layout.ts";
import { parseUuid } from "./uuid.ts";

/** Strings a user can give; absent and empty mean the default or none. */
export interface SmbiosConfig {
  readonly manufacturer?: string;
  readonly productName?: string;
  readonly version?: string;
  readonly serialNumber?: string;
  readonly uuid?: string;
  readonly skuNumber?: string;
  readonly family?: string;
  readonly chassisAssetTag?: string;
  readonly oemStrings?: readonly string[];
}

const ENTRY_POINT_BYTES = 0x18;
const ENTRY_POINT_CHECKSUM_AT = 5;

const TYPE = { bios: 0, system: 1, chassis: 3, oemStrings: 11, end: 127 } as const;
const BIOS_PCI_SUPPORTED = 1 << 7;
const BIOS_IS_VIRTUAL_MACHINE = 1 << 4;
const WAKE_UP_UNKNOWN = 2;
const CHASSIS_UNKNOWN = 2;
const CHASSIS_SECURITY_NONE = 3;
/** String numbers are bytes, and 0 means none. */
const MAX_STRINGS = 255;

const DEFAULT_MANUFACTURER = "Cloud Hypervisor";
const DEFAULT_PRODUCT_NAME = "cloud-hypervisor";
const BIOS_VENDOR = "cloud-hypervisor";
const BIOS_VERSION = "0";

function smbiosError(message: string, detail?: string): ArchError {
  const head = [
    "Cannot configure system",
    "Platform specific error (x86_64)",
    "Error setting up SMBIOS table",
    message,
  ] as const;
  return detail === undefined ? chainedError("smbios", ...head) : chainedError("smbios", ...head, detail);
}

/** The strings of one structure, numbered as they are added. */
class StringSet {
  readonly #strings: string[] = [];

  /** Number of a string, 0 for none. An empty string would end the set, and is none too. */
  add(text: string | undefined): number {
    if (text === undefined || text === "") return 0;
    if (text.includes("\0")) throw smbiosError("SMBIOS string contains a NUL character");
    if (this.#strings.length === MAX_STRINGS) {
      throw smbiosError(`SMBIOS string index overflow (u8 limit reached: ${MAX_STRINGS})`);
    }
    return this.#strings.push(text);
  }

  get count(): number {
    return this.#strings.length;
  }

  write(writer: ByteWriter): void {
    const encoder = new TextEncoder();
    for (const text of this.#strings) writer.bytes(encoder.encode(text)).u8(0);
    writer.zeros(this.#strings.length === 0 ? 2 : 1);
  }
}

/** Structures under construction; handles count from 1. */
class StructureTable {
  readonly writer = new ByteWriter();
  #handle = 0;

  add(type: number, formatted: Uint8Array, strings = new StringSet()): void {
    this.writer.u8(type, 4 + formatted.length).u16(++this.#handle).bytes(formatted);
    strings.write(this.writer);
  }
}

function systemUuid(text: string | undefined): Uint8Array {
  if (text === undefined) return new Uint8Array(16);
  const bytes = parseUuid(text);
  if (typeof bytes === "string") throw smbiosError(`Failure to parse uuid: ${text}`, bytes);
  // The first three fields are little-endian (§7.2.1).
  return Uint8Array.from([3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15], (i) => bytes[i]);
}

function addBios(table: StructureTable): void {
  const strings = new StringSet();
  const formatted = new ByteWriter()
    .u8(strings.add(BIOS_VENDOR), strings.add(BIOS_VERSION))
    .u16(0).u8(0, 0) // start segment, release date, ROM size
    .u64(BIOS_PCI_SUPPORTED)
    .u8(0, BIOS_IS_VIRTUAL_MACHINE);
  table.add(TYPE.bios, formatted.take(), strings);
}

function addSystem(table: StructureTable, config: SmbiosConfig): void {
  const strings = new StringSet();
  const manufacturer = strings.add(config.manufacturer || DEFAULT_MANUFACTURER);
  const product = strings.add(config.productName || DEFAULT_PRODUCT_NAME);
  const version = strings.add(config.version);
  const serial = strings.add(config.serialNumber);
  const sku = strings.add(config.skuNumber);
  const family = strings.add(config.family);
  const formatted = new ByteWriter()
    .u8(manufacturer, product, version, serial)
    .bytes(systemUuid(config.uuid))
    .u8(WAKE_UP_UNKNOWN, sku, family);
  table.add(TYPE.system, formatted.take(), strings);
}

function addChassis(table: StructureTable, assetTag: string): void {
  const strings = new StringSet();
  const formatted = new ByteWriter()
    .u8(0, CHASSIS_UNKNOWN, 0, 0, strings.add(assetTag)) // manufacturer, type, version, serial, asset tag
    .u8(CHASSIS_UNKNOWN, CHASSIS_UNKNOWN, CHASSIS_UNKNOWN, CHASSIS_SECURITY_NONE)
    .u32(0).u8(0, 0, 0, 0); // OEM, height, power cords, contained elements
  table.add(TYPE.chassis, formatted.take(), strings);
}

function addOemStrings(table: StructureTable, texts: readonly string[]): void {
  const strings = new StringSet();
  for (const text of texts) strings.add(text);
  table.add(TYPE.oemStrings, new ByteWriter().u8(strings.count).take(), strings);
}

/**
 * Entry point and structures as one blob.
 *
 * @throws ArchError (smbios) for an unreadable UUID, too many strings, or a table that reaches beyond 1 MiB
 */
export function buildSmbios(config: SmbiosConfig = {}): GuestBlob {
  const table = new StructureTable();
  addBios(table);
  addSystem(table, config);
  if (config.chassisAssetTag) addChassis(table, config.chassisAssetTag);
  if (config.oemStrings?.some((text) => text !== "")) addOemStrings(table, config.oemStrings);
  table.add(TYPE.end, new Uint8Array(0));
  const structures = table.writer.take();
  const bytes = new ByteWriter()
    .ascii("_SM3_").u8(0, ENTRY_POINT_BYTES)
    .u8(3, 2, 0) // version 3.2.0
    .u8(1, 0) // entry point revision, reserved
    .u32(structures.length)
    .u64(SMBIOS_START + ENTRY_POINT_BYTES)
    .bytes(structures)
    .take();
  bytes[ENTRY_POINT_CHECKSUM_AT] = checksum8(bytes.subarray(0, ENTRY_POINT_BYTES));
  if (SMBIOS_START + bytes.length > HIGH_RAM_START) {
    throw smbiosError("The SMBIOS table has too little address space to be stored");
  }
  return { gpa: SMBIOS_START, bytes };
}

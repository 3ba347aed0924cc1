/**
 * What a machine puts into its firmware configuration device: keys and bytes, without the big files.
 *
 * L4, main isolate; pure. Source: QEMU docs/specs/fw_cfg.rst; keys, names and their order as the original's.
 */
import { FileEntry, FW_CFG_ID, FW_CFG_SIGNATURE, FwCfgKey } from "./spec.ts";

/** Bytes in memory, or a stretch of a file that is already open. */
export type ItemContent =
  | { readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly fd: number; readonly offset: number; readonly sizeBytes: number };

/** An item by its key. */
export interface FwCfgItem {
  readonly key: number;
  readonly content: ItemContent;
}

/** An item with a name, for the directory. */
export interface FwCfgFile {
  readonly name: string;
  readonly content: ItemContent;
}

/** A kernel file. */
export interface KernelItem {
  readonly fd: number;
  readonly sizeBytes: number;
  /** Its first bytes, as many as `MAX_SETUP_BYTES` or all. */
  readonly head: Uint8Array;
}

/** Longest name, with its end. */
const MAX_NAME_BYTES = FileEntry.nameBytes - 1;
const SECTOR_BYTES = 512;
/** A boot sector that says 0 means 4. */
const DEFAULT_SETUP_SECTORS = 4;
/** Fields of a Linux boot sector (Documentation/x86/boot.rst). */
const SETUP_SECTS_AT = 0x1f1;
const TYPE_OF_LOADER_AT = 0x210;
const UNDEFINED_LOADER = 0xff;

/** The set-up part of a kernel is never longer. */
export const MAX_SETUP_BYTES: number = 256 * SECTOR_BYTES;

/** Length of an item. */
export function contentBytes(content: ItemContent): number {
  return "bytes" in content ? content.bytes.byteLength : content.sizeBytes;
}

function word(value: number): ItemContent {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return { bytes };
}

/** Items every such device has. */
export function fixedItems(): FwCfgItem[] {
  const signature = { bytes: new TextEncoder().encode(FW_CFG_SIGNATURE) };
  return [{ key: FwCfgKey.SIGNATURE, content: signature }, { key: FwCfgKey.ID, content: word(FW_CFG_ID) }];
}

/**
 * A kernel as its set-up part and the rest, divided where a Linux boot sector says. As with any boot loader the set-up part
 * says who loads.
 */
export function kernelItems({ fd, sizeBytes, head }: KernelItem): FwCfgItem[] {
  const sectors = head[SETUP_SECTS_AT] || DEFAULT_SETUP_SECTORS;
  const setup = head.slice(0, (1 + sectors) * SECTOR_BYTES);
  if (setup.byteLength > TYPE_OF_LOADER_AT) {
    setup[SETUP_SECTS_AT] = sectors;
    setup[TYPE_OF_LOADER_AT] = UNDEFINED_LOADER;
  }
  const rest = { fd, offset: setup.byteLength, sizeBytes: sizeBytes - setup.byteLength };
  return [
    { key: FwCfgKey.SETUP_SIZE, content: word(setup.byteLength) },
    { key: FwCfgKey.SETUP_DATA, content: { bytes: setup } },
    { key: FwCfgKey.KERNEL_SIZE, content: word(rest.sizeBytes) },
    { key: FwCfgKey.KERNEL_DATA, content: rest },
  ];
}

/** An initial RAM disk. */
export function initramfsItems(fd: number, sizeBytes: number): FwCfgItem[] {
  return [
    { key: FwCfgKey.INITRD_SIZE, content: word(sizeBytes) },
    { key: FwCfgKey.INITRD_DATA, content: { fd, offset: 0, sizeBytes } },
  ];
}

/** A command line with its terminating NUL. */
export function cmdlineItems(text: string): FwCfgItem[] {
  const bytes = new TextEncoder().encode(`${text}\0`);
  return [
    { key: FwCfgKey.CMDLINE_SIZE, content: word(bytes.byteLength) },
    { key: FwCfgKey.CMDLINE_DATA, content: { bytes } },
  ];
}

/** Named files with keys of their own, and their directory. @throws RangeError for a name that is too long */
export function fileItems(files: readonly FwCfgFile[]): FwCfgItem[] {
  const directory = new Uint8Array(4 + files.length * FileEntry.bytes);
  const view = new DataView(directory.buffer);
  view.setUint32(0, files.length);
  const items = files.map((file, i): FwCfgItem => {
    const name = new TextEncoder().encode(file.name);
    if (name.byteLength > MAX_NAME_BYTES) {
      throw new RangeError(`The fw_cfg item name "${file.name}" is longer than ${MAX_NAME_BYTES} bytes`);
    }
    const at = 4 + i * FileEntry.bytes;
    view.setUint32(at + FileEntry.size, contentBytes(file.content));
    view.setUint16(at + FileEntry.select, FwCfgKey.FILE_FIRST + i);
    directory.set(name, at + FileEntry.name);
    return { key: FwCfgKey.FILE_FIRST + i, content: file.content };
  });
  return [{ key: FwCfgKey.FILE_DIR, content: { bytes: directory } }, ...items];
}

/**
 * The firmware configuration device: what the configuration puts into it.
 *
 * L5, main isolate, at boot. Source: spec/machine-model.md §8; order of the files as the original's.
 */
import { close, fileStatus, memfd, O, open } from "@ffi/libc/fd.ts";
import { pread, pwrite } from "@ffi/libc/file_io.ts";
import type { PayloadConfig } from "@schemas/api/payload.ts";
import type { AcpiMachine } from "@vmm/arch/x86_64/acpi/machine.ts";
import {
  loadableTables,
  RSDP_FILE,
  TABLE_LOADER_FILE,
  TABLES_FILE,
} from "@vmm/arch/x86_64/acpi/table_loader.ts";
import { buildAcpi } from "@vmm/arch/x86_64/acpi/tables.ts";
import { firmwareMemoryMap } from "@vmm/arch/x86_64/memory_map.ts";
import { FwCfgBlock } from "@vmm/devices/fw_cfg/fw_cfg.ts";
import {
  cmdlineItems,
  contentBytes,
  fileItems,
  fixedItems,
  type FwCfgFile,
  type FwCfgItem,
  initramfsItems,
  type ItemContent,
  kernelItems,
  MAX_SETUP_BYTES,
} from "@vmm/devices/fw_cfg/items.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import type { FwCfgDescription } from "@vmm/machine/fw_cfg_items.ts";

/** A device whose items are ready. */
export interface PluggedFwCfg {
  readonly description: FwCfgDescription;
  release(): void;
}

/** Prepares the configured items; undefined when no such device is configured. @throws ContextError naming a file */
export function plugFwCfg(payload: PayloadConfig, machine: AcpiMachine): PluggedFwCfg | undefined {
  const config = payload.fw_cfg_config;
  if (config === undefined) return undefined;
  const fds: number[] = [];
  const release = () => fds.splice(0).forEach(close);
  /** A whole file as an item. */
  const whole = (path: string) => {
    try {
      const fd = open(path, O.RDONLY);
      fds.push(fd);
      return { fd, offset: 0, sizeBytes: Number(fileStatus(fd).sizeBytes) };
    } catch (cause) {
      throw new ContextError(["Error from device manager", `Cannot open the fw_cfg file "${path}"`], cause);
    }
  };
  try {
    const items: FwCfgItem[] = fixedItems();
    if (config.kernel && payload.kernel !== undefined) {
      const file = whole(payload.kernel);
      items.push(...kernelItems({ ...file, head: headOf(file) }));
    }
    if (config.initramfs && payload.initramfs !== undefined) {
      const { fd, sizeBytes } = whole(payload.initramfs);
      items.push(...initramfsItems(fd, sizeBytes));
    }
    if (config.cmdline && payload.cmdline !== undefined) items.push(...cmdlineItems(payload.cmdline));
    const files: FwCfgFile[] = [];
    if (config.e820) {
      files.push({ name: "etc/e820", content: { bytes: firmwareMemoryMap(machine.memory) } });
    }
    for (const { name, file, string } of config.items?.item_list ?? []) {
      const content = file === undefined ? { bytes: new TextEncoder().encode(string ?? "") } : whole(file);
      files.push({ name, content });
    }
    if (config.acpi_tables) files.push(...acpiFiles(machine));
    items.push(...namedItems(files));
    return { description: { block: FwCfgBlock.create().buffer, items: store(items, fds) }, release };
  } catch (error) {
    release();
    throw error;
  }
}

/** The beginning of a kernel file. */
function headOf({ fd, sizeBytes }: { fd: number; sizeBytes: number }): Uint8Array {
  const head = new Uint8Array(Math.min(sizeBytes, MAX_SETUP_BYTES));
  for (let done = 0; done < head.byteLength;) {
    const count = pread(fd, head.subarray(done), done);
    if (count <= 0) {
      throw new ContextError(["Error from device manager"], new Error("Cannot read the kernel for fw_cfg"));
    }
    done += count;
  }
  return head;
}

function acpiFiles(machine: AcpiMachine): FwCfgFile[] {
  const { loader, rsdp, tables } = loadableTables(buildAcpi(machine));
  return [
    { name: TABLE_LOADER_FILE, content: { bytes: loader } },
    { name: RSDP_FILE, content: { bytes: rsdp } },
    { name: TABLES_FILE, content: { bytes: tables } },
  ];
}

function namedItems(files: readonly FwCfgFile[]): FwCfgItem[] {
  try {
    return fileItems(files);
  } catch (cause) {
    throw new ContextError(["Error from device manager"], cause);
  }
}

/** Puts the items that are bytes into one file in memory. */
function store(items: readonly FwCfgItem[], fds: number[]): FwCfgDescription["items"] {
  const fd = memfd("fw_cfg");
  fds.push(fd);
  let end = 0;
  return items.map(({ key, content }: { key: number; content: ItemContent }) => {
    if (!("bytes" in content)) return { key, ...content };
    const offset = end;
    for (let done = 0; done < content.bytes.byteLength;) {
      const count = pwrite(fd, content.bytes.subarray(done), offset + done);
      if (count <= 0) {
        throw new ContextError(["Error from device manager"], new Error("Cannot store fw_cfg items"));
      }
      done += count;
    }
    end += contentBytes(content);
    return { key, fd, offset, sizeBytes: contentBytes(content) };
  });
}

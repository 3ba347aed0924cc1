/**
 * Everything that is in guest memory at the first instruction: payload, boot structures, ACPI, SMBIOS, MP table.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §1, §7.
 */
import type { AcpiMachine } from "./acpi/machine.ts";
import { buildAcpi } from "./acpi/tables.ts";
import type { KernelFile } from "./loader/kernel_file.ts";
import { type LoadPlan, planPayload } from "./loader/payload.ts";
import { buildMpTable } from "./mptable.ts";
import { buildSmbios, type SmbiosConfig } from "./smbios.ts";

/** What is to be booted on which machine. */
export interface BootImageRequest {
  /** Kernel or firmware. */
  readonly kernel: KernelFile;
  readonly initramfs?: { readonly sizeBytes: number };
  readonly cmdline?: string;
  readonly machine: AcpiMachine;
  readonly smbios?: SmbiosConfig;
}

/**
 * Plans the memory contents of a fresh machine. Segments are copied first, then blobs written.
 *
 * @throws ArchError of any code the parts name
 */
export function planBootImage(request: BootImageRequest): LoadPlan {
  const { machine } = request;
  const acpi = buildAcpi(machine);
  const payload = planPayload({
    kernel: request.kernel,
    initramfs: request.initramfs,
    cmdline: request.cmdline,
    memory: machine.memory,
    rsdpGpa: acpi.rsdpGpa,
  });
  const smbios = buildSmbios(request.smbios);
  const mpTable = buildMpTable(smbios.gpa + smbios.bytes.length, machine.bootVcpus, machine.topology);
  const tables = [...acpi.blobs, smbios, ...(mpTable === undefined ? [] : [mpTable])];
  return { ...payload, blobs: [...payload.blobs, ...tables] };
}

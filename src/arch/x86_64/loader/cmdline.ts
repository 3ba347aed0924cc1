/**
 * Kernel command line: what may stand in it and where it goes.
 *
 * L2, any isolate; pure. Source: spec/machine-model.md §1.
 */
import type { GuestBlob } from "@vmm/arch/x86_64/boot_cpu.ts";
import { chainedError } from "@vmm/arch/x86_64/errors.ts";
import { CMDLINE_MAX_SIZE_BYTES, CMDLINE_START } from "@vmm/arch/x86_64/layout.ts";

/**
 * The command line as NUL-terminated guest bytes.
 *
 * @throws ArchError (kernel-cmdline) for a character that is not printable ASCII, or above 65,535 characters
 */
export function cmdlineBlob(cmdline: string): GuestBlob {
  if (/[^\x20-\x7e]/.test(cmdline)) {
    throw chainedError(
      "kernel-cmdline",
      "Cannot modify the kernel command line",
      "String contains a non-printable ASCII character.",
    );
  }
  if (cmdline.length + 1 > CMDLINE_MAX_SIZE_BYTES) {
    throw chainedError(
      "kernel-cmdline",
      "Cannot modify the kernel command line",
      "Inserting string would make command line too long.",
    );
  }
  return { gpa: CMDLINE_START, bytes: new TextEncoder().encode(cmdline + "\0") };
}

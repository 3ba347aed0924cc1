/**
 * Payload files on the host: opened, planned by arch's loader, read straight into guest memory.
 *
 * L5, main isolate. Source: machine model §7.
 */
import { close, fileStatus, O, open } from "@ffi/libc/fd.ts";
import { pread } from "@ffi/libc/file_io.ts";
import { OsError } from "@ffi/abi/errno.ts";
import type { KernelFile, LoadSegment } from "@vmm/arch/x86_64/loader/kernel_file.ts";
import type { AcpiMachine } from "@vmm/arch/x86_64/acpi/machine.ts";
import { planBootImage } from "@vmm/arch/x86_64/boot_image.ts";
import type { LoadPlan } from "@vmm/arch/x86_64/loader/payload.ts";
import type { SmbiosConfig } from "@vmm/arch/x86_64/smbios.ts";
import type { GuestMemory } from "@vmm/memory/guest_memory.ts";

type PayloadKind = "kernel" | "firmware" | "initramfs";

/** The original's texts. */
const CANNOT_OPEN: Record<PayloadKind, string> = {
  kernel: "Cannot open kernel file",
  firmware: "Error manipulating firmware file",
  initramfs: "Cannot open initramfs file",
};

/** A payload file that cannot be opened or read. */
export class PayloadError extends Error {
  override readonly name = "PayloadError";
  constructor(what: PayloadKind, readonly path: string, cause: unknown) {
    super(CANNOT_OPEN[what], { cause });
  }
}

/** Paths of one boot. `kernel` is the kernel or, with `isFirmware`, the firmware. */
export interface PayloadPaths {
  readonly kernel: string;
  readonly isFirmware: boolean;
  readonly initramfs?: string;
  readonly cmdline?: string;
}

class PayloadFile implements KernelFile {
  readonly #fd: number;
  readonly sizeBytes: number;

  constructor(what: PayloadKind, readonly path: string) {
    try {
      // A FIFO without a writer must not hold up main: it is opened at once, and cannot be read by position.
      this.#fd = open(path, O.RDONLY | O.NONBLOCK);
    } catch (cause) {
      throw new PayloadError(what, path, cause);
    }
    this.sizeBytes = Number(fileStatus(this.#fd).sizeBytes);
  }

  readAt(offset: number, lengthBytes: number): Uint8Array {
    const bytes = new Uint8Array(lengthBytes);
    const count = this.readInto(bytes, offset);
    return bytes.subarray(0, count);
  }

  /** Fills `target` from `offset`; fewer bytes only at the end of the file. @throws OsError */
  readInto(target: Uint8Array, offset: number): number {
    let done = 0;
    while (done < target.length) {
      const count = pread(this.#fd, target.subarray(done), offset + done);
      if (count < 0) throw new OsError(-count, "pread", this.path);
      if (count === 0) break;
      done += count;
    }
    return done;
  }

  close(): void {
    close(this.#fd);
  }
}

/** Looks whether the initramfs can be opened: without it there is to be no instance. @throws PayloadError */
export function checkInitramfs(path: string): void {
  new PayloadFile("initramfs", path).close();
}

/**
 * Fills guest memory for the first instruction: payload, boot structures, tables; returns how to enter.
 *
 * @throws PayloadError, ArchError (see `planBootImage`)
 */
export function loadBootImage(
  paths: PayloadPaths,
  machine: AcpiMachine,
  smbios: SmbiosConfig | undefined,
  memory: GuestMemory,
): LoadPlan {
  const kernel = new PayloadFile(paths.isFirmware ? "firmware" : "kernel", paths.kernel);
  let initramfs: PayloadFile | undefined;
  try {
    if (paths.initramfs !== undefined) initramfs = new PayloadFile("initramfs", paths.initramfs);
    const load = planBootImage({ kernel, initramfs, cmdline: paths.cmdline, machine, smbios });
    const files = { kernel, initramfs };
    for (const segment of load.segments) readSegment(segment, files[segment.source]!, memory);
    for (const blob of load.blobs) {
      if (!memory.write(blob.gpa, blob.bytes)) {
        throw new Error(`No guest memory for the boot tables at 0x${blob.gpa.toString(16)}`);
      }
    }
    return load;
  } finally {
    kernel.close();
    initramfs?.close();
  }
}

function readSegment(segment: LoadSegment, file: PayloadFile, memory: GuestMemory): void {
  let done = 0;
  // A segment may lie across neighbouring RAM regions.
  while (done < segment.lengthBytes) {
    const gpa = segment.gpa + done;
    const region = memory.find(gpa, 1);
    if (region === undefined) throw new Error(`Payload segment leaves guest memory at 0x${gpa.toString(16)}`);
    const lengthBytes = Math.min(segment.lengthBytes - done, region.end - gpa);
    const target = new Uint8Array(region.buffer, gpa - region.gpa, lengthBytes);
    if (file.readInto(target, segment.fileOffset + done) !== lengthBytes) {
      throw new PayloadError(
        segment.source,
        file.path,
        new Error("The file became shorter while it was read"),
      );
    }
    done += lengthBytes;
  }
}

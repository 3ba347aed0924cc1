/**
 * Opens a disk image as a configuration asks, and describes it for the device model and the I/O Worker.
 *
 * L4, main isolate. Error and warning texts are the original's. Source: spec/machine-model.md §8 "image type",
 * "back-ends", "locking".
 */
import { Errno, OsError } from "@ffi/abi/errno.ts";
import { deviceTopology, directIoAlignment } from "@ffi/libc/block_device.ts";
import { close, FALLOC, fileStatus, FileType, O, open, S_IFMT } from "@ffi/libc/fd.ts";
import { allocate } from "@ffi/libc/file_io.ts";
import type { DiskConfig, ImageType } from "@schemas/api/disk.ts";
import { asReadonly, attachDisk } from "./attach.ts";
import {
  DEFAULT_TOPOLOGY,
  type DiskDescription,
  type DiskFormat,
  type DiskTopology,
  type FileDescription,
} from "./description.ts";
import { detectFormat, readUpTo } from "./detect.ts";
import { cannotOpen, DiskError, ImageFault } from "./disk_error.ts";
import { ImageDamage } from "./host_failure.ts";
import { ImageFile } from "./image_file.ts";
import { ImageLock } from "./lock.ts";
import { readHeader } from "./qcow2/disk.ts";
import { parseFixedFooter, VHD_FOOTER_BYTES } from "./vhd/footer.ts";
import { openExtents } from "./vmdk/open.ts";

/** The fields of a disk's configuration that decide how its image is opened. */
export type DiskRequest = Pick<
  DiskConfig,
  | "path"
  | "readonly"
  | "direct"
  | "sparse"
  | "backing_files"
  | "image_type"
  | "disable_io_uring"
  | "lock_granularity"
>;

/** Configuration names of the formats. */
const IMAGE_TYPES: Record<DiskFormat, ImageType> = {
  raw: "Raw",
  qcow2: "Qcow2",
  vhd: "FixedVhd",
  vhdx: "Vhdx",
  vmdk: "FlatVmdk",
};
const SECTOR_BYTES = 512;
/** Images below an image, as many as the original follows. */
const MAX_BACKING_DEPTH = 10;
/** Longest serial number a guest can ask for (VIRTIO_BLK_ID_BYTES). */
const SERIAL_BYTES = 20;

/** An open image, owned by main. */
export interface OpenedDisk {
  /** Sent to the I/O Worker. */
  readonly description: DiskDescription;
  /** What the configuration should say from now on. */
  readonly imageType: ImageType;
  /** Switched off when the format was detected. */
  readonly backingFiles: boolean;
  /** The format was detected and is one without a header: the guest must not be able to forge one. */
  readonly protectSectorZero: boolean;
  readonly topology: DiskTopology;
  /** The image can zero or give back ranges. */
  readonly canZero: boolean;
  /** Serial number of a disk that was not given one. */
  readonly defaultSerial: Uint8Array;
  /** Texts for the log, level warn. */
  readonly warnings: readonly string[];
  readonly lock: ImageLock;
  /** Changes the size while no Worker has the disk attached. @throws DiskError */
  resize(sizeBytes: number): void;
  /** Closes every descriptor; locks go with them. The disk must not be attached anywhere. */
  close(): void;
}

/** Opens the image. @throws DiskError with the original's chain; nothing stays open then */
export function openDisk(request: DiskRequest): OpenedDisk {
  const path = request.path;
  if (path === undefined) throw new DiskError(["No disk path was specified when one was expected"]);
  const opened: number[] = [];
  try {
    return openImage(path, request, opened);
  } catch (error) {
    opened.forEach(close);
    throw error;
  }
}

function openImage(path: string, request: DiskRequest, opened: number[]): OpenedDisk {
  const file = openFile(path, request.readonly, request.direct);
  opened.push(file.fd);
  const { sizeBytes, format } = inspect(file);
  const warnings: string[] = [];
  const printed = format;
  let backingFiles = request.backing_files;
  let protectSectorZero = false;
  if (request.image_type === "Unknown") {
    warnings.push(
      "DEPRECATION: auto-detection of disk image type is deprecated and will be removed in a future release. " +
        "Please specify image type explicitly.",
      `No image_type specified - detected as ${printed}. ` +
        "Configuration updated to persist type across reboots and migrations.",
    );
    if (format === "raw" || format === "vhd") {
      warnings.push(`Autodetected ${printed} image type. Disabling sector 0 writes.`);
      protectSectorZero = true;
    } else {
      warnings.push(
        "Non-raw image type detected. In the future it will be necessary to specify image_type for non-raw files.",
      );
    }
    if (format === "qcow2" && backingFiles) {
      warnings.push("QCOW2 image type autodetected. Disabling backing files");
      backingFiles = false;
    }
  } else if (request.image_type !== IMAGE_TYPES[format]) {
    const specified = formatOf(request.image_type);
    throw new DiskError([
      `Disk image type does not match expected type: specified = ${specified}, detected = ${printed}`,
    ]);
  }
  if (format !== "qcow2" && request.backing_files) {
    warnings.push("Enabling backing_files option only applies for QCOW2 files");
  }
  if (format === "raw" && !request.readonly && !request.sparse) preallocate(file, sizeBytes, warnings);

  const description = describeImage(format, file, sizeBytes, request, backingFiles, opened);
  const virtualBytes = description.sizeBytes;
  if (virtualBytes % SECTOR_BYTES !== 0) {
    warnings.push(
      `Disk size ${virtualBytes} is not a multiple of sector size ${SECTOR_BYTES}; ` +
        "the remainder will not be visible to the guest.",
    );
  }
  const canZero = format === "raw" ? canZeroRanges(file, sizeBytes) : format === "qcow2";
  if (!canZero && request.sparse) {
    warnings.push("sparse=on requested but backend does not support sparse operations");
  }
  return {
    description,
    imageType: IMAGE_TYPES[format],
    backingFiles,
    protectSectorZero,
    topology: topologyOf(file),
    canZero,
    defaultSerial: defaultSerial(file.fd),
    warnings,
    lock: new ImageLock(file, virtualBytes, request.lock_granularity),
    resize: (size) => resizeDetached(description, size),
    close: () => opened.forEach(close),
  };
}

/** Opens what else an image consists of, and tries it. @throws DiskError */
function describeImage(
  format: DiskFormat,
  file: FileDescription,
  fileBytes: number,
  request: DiskRequest,
  backingFiles: boolean,
  opened: number[],
): DiskDescription {
  const base = {
    format,
    file,
    sizeBytes: fileBytes,
    sparse: request.sparse,
    ring: !request.disable_io_uring,
  };
  try {
    const description = complete(base, { ...request, backing_files: backingFiles }, opened, 0);
    const disk = attachDisk(asReadonly(description));
    const { sizeBytes } = disk;
    disk.close();
    return { ...description, sizeBytes };
  } catch (error) {
    if (error instanceof DiskError) throw error;
    if (error instanceof ImageFault) {
      throw cannotOpen(error.kind, file.path, "open", error.cause ?? error.message);
    }
    if (error instanceof ImageDamage) throw cannotOpen("Corrupt image", file.path, "open", error.message);
    throw cannotOpen("I/O error", file.path, undefined, error);
  }
}

/** @param depth images above this one */
function complete(
  base: DiskDescription,
  request: DiskRequest,
  opened: number[],
  depth: number,
): DiskDescription {
  const { file, sizeBytes } = base;
  switch (base.format) {
    case "raw":
      return base;
    case "vhd": {
      const footer = readUpTo(new ImageFile(file), sizeBytes - VHD_FOOTER_BYTES, VHD_FOOTER_BYTES);
      const parsed = parseFixedFooter(footer);
      if (parsed === undefined) throw new ImageFault("Invalid format", "VHD footer is not valid");
      return { ...base, extents: [{ file, lengthBytes: parsed.sizeBytes, fileOffset: 0 }] };
    }
    case "vmdk": {
      const openExtent = (path: string, readonly: boolean, flags: number) => {
        const extent = openFile(path, readonly, request.direct, flags);
        opened.push(extent.fd);
        return extent;
      };
      const text = readUpTo(new ImageFile(file), 0, sizeBytes);
      return { ...base, extents: openExtents(text, file.path, request.readonly, openExtent) };
    }
    case "qcow2": {
      const header = readHeader(new ImageFile(file), file.readonly);
      if (header.backingName === undefined) return base;
      // The original says the same of a chain that is too long.
      if (!request.backing_files || depth >= MAX_BACKING_DEPTH) {
        throw new ImageFault("Unsupported feature", "Maximum disk nesting depth exceeded");
      }
      const path = resolveBeside(file.path, header.backingName);
      return { ...base, backing: openBacking(path, header.backingFormat, request, opened, depth + 1) };
    }
    case "vhdx":
      return base;
  }
}

/** A name in an image is relative to the image's directory. */
function resolveBeside(imagePath: string, name: string): string {
  if (name.startsWith("/")) return name;
  const real = Deno.realPathSync(imagePath);
  return real.slice(0, real.lastIndexOf("/") + 1) + name;
}

/** Opens an image below another one, always for reading only. @throws ImageFault */
function openBacking(
  path: string,
  format: string | undefined,
  request: DiskRequest,
  opened: number[],
  depth: number,
): DiskDescription {
  if (format !== undefined && format !== "raw" && format !== "qcow2") {
    throw new ImageFault("Unsupported feature", `Unsupported backing file format: ${format}`);
  }
  let file: FileDescription;
  try {
    file = openFile(path, true, request.direct);
  } catch (error) {
    throw new ImageFault("I/O error", "", { cause: error instanceof DiskError ? below(path, error) : error });
  }
  opened.push(file.fd);
  const image = new ImageFile(file);
  const sizeBytes = image.sizeBytes();
  const actual = format ?? detectFormat(image, sizeBytes);
  if (actual !== "raw" && actual !== "qcow2") {
    throw new ImageFault("Unsupported feature", `Unsupported backing file format: ${actual}`);
  }
  const base = { format: actual, file, sizeBytes, sparse: false, ring: false };
  return complete(base, request, opened, depth);
}

/** The reason a backing file could not be opened, with its path. */
function below(path: string, error: DiskError): Error {
  return new Error(`Backing file I/O error: ${path}`, { cause: error.cause });
}

/** Opens one file of an image and learns what kind it is. @throws DiskError */
export function openFile(path: string, readonly: boolean, direct: boolean, extraFlags = 0): FileDescription {
  let fd: number;
  try {
    refuseOddFiles(path);
    fd = open(path, (readonly ? O.RDONLY : O.RDWR) | (direct ? O.DIRECT : 0) | extraFlags);
  } catch (error) {
    throw cannotOpen("I/O error", path, "open", error);
  }
  const type = fileStatus(fd).mode & S_IFMT;
  if (type === FileType.directory) {
    close(fd);
    throw cannotOpen("I/O error", path, "open", new OsError(Errno.EISDIR, "read", path));
  }
  const alignment = direct ? directIoAlignment(fd) || SECTOR_BYTES : 1;
  return { fd, path, alignment, isBlockDevice: type === FileType.block, readonly };
}

/** Opening a FIFO would wait for somebody to write to it; a directory is left to `open` to refuse. @throws Error */
function refuseOddFiles(path: string): void {
  let status: Deno.FileInfo;
  try {
    status = Deno.statSync(path);
  } catch {
    return; // `open` says why
  }
  if (status.isFile || status.isBlockDevice || status.isDirectory) return;
  const kind = status.isCharDevice ? "a character device" : status.isFifo ? "a FIFO" : "a socket";
  throw new Error(`disk image must be a regular file or block device, is: ${kind}`);
}

function inspect(file: FileDescription): { sizeBytes: number; format: DiskFormat } {
  try {
    const image = new ImageFile(file);
    const sizeBytes = image.sizeBytes();
    return { sizeBytes, format: detectFormat(image, sizeBytes) };
  } catch (error) {
    throw cannotOpen("I/O error", file.path, "detect_image_type", error);
  }
}

function formatOf(type: ImageType): string {
  return Object.entries(IMAGE_TYPES).find(([, name]) => name === type)?.[0] ?? "unknown";
}

/** Gives a file all its blocks now. Failing is no error: the disk works without. */
function preallocate(file: FileDescription, sizeBytes: number, warnings: string[]): void {
  if (sizeBytes === 0) return;
  const result = allocate(file.fd, 0, 0, sizeBytes);
  if (result < 0) {
    const reason = new OsError(-result, "fallocate", file.path).message;
    warnings.push(`Failed to preallocate disk space for "${file.path}": ${reason}`);
  }
}

/** Tries, past the file's end where it changes nothing, whether ranges can be given back or zeroed. */
function canZeroRanges(file: FileDescription, sizeBytes: number): boolean {
  if (file.isBlockDevice) return true;
  return allocate(file.fd, FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, sizeBytes, 1) === 0 ||
    allocate(file.fd, FALLOC.ZERO_RANGE | FALLOC.KEEP_SIZE, sizeBytes, 1) === 0;
}

/** Block sizes: the device's own, or what direct I/O on the file needs, or plain sectors. */
function topologyOf(file: FileDescription): DiskTopology {
  if (file.isBlockDevice) {
    try {
      return deviceTopology(file.fd);
    } catch {
      return DEFAULT_TOPOLOGY;
    }
  }
  if (file.alignment === 1) return DEFAULT_TOPOLOGY;
  return { logical: file.alignment, physical: file.alignment, minimumIo: file.alignment, optimalIo: 0 };
}

/** Device, special-device and inode number in decimal, one after the other, cut or zero-padded to 20 bytes. */
function defaultSerial(fd: number): Uint8Array {
  const { dev, rdev, ino } = fileStatus(fd);
  const serial = new Uint8Array(SERIAL_BYTES);
  serial.set(new TextEncoder().encode(`${dev}${rdev}${ino}`).subarray(0, SERIAL_BYTES));
  return serial;
}

function resizeDetached(description: DiskDescription, sizeBytes: number): void {
  const disk = attachDisk(description);
  try {
    const result = disk.resize(sizeBytes);
    if (result < 0) throw resizeFailed(description, sizeBytes, result);
  } finally {
    disk.close();
  }
}

/** Formats that keep the size they were made with, as errors name them. */
const FIXED_FORMATS: Partial<Record<DiskFormat, string>> = {
  vhd: "fixed VHD",
  vhdx: "VHDX",
  vmdk: "flat VMDK",
};

/** The error for `Disk.resize` having returned `result`. */
export function resizeFailed(
  description: DiskDescription,
  sizeBytes: number | bigint,
  result: number,
): DiskError {
  if (BigInt(sizeBytes) % BigInt(SECTOR_BYTES) !== 0n) {
    return new DiskError([`Disk image size is not a multiple of ${SECTOR_BYTES}`]);
  }
  const { file, format } = description;
  const failed = (kind: string, reason: string) =>
    new DiskError(["Disk resize failed", kind, "Resize failed", reason]);
  const fixed = FIXED_FORMATS[format];
  if (fixed !== undefined) {
    return failed("Unsupported feature (op=resize)", `resize not supported for ${fixed}`);
  }
  const osError = new OsError(-result, "ftruncate", file.path);
  if (format === "qcow2") {
    if (description.backing !== undefined) {
      return failed("Unsupported feature (op=resize)", "resize not supported with backing files");
    }
    const reason = result === -Errno.EINVAL
      ? "shrinking QCOW2 images is not supported"
      : result === -Errno.EOPNOTSUPP
      ? "the image is open for reading only, or names a backing file"
      : osError.message;
    return failed("I/O error (op=resize)", reason);
  }
  if (file.isBlockDevice) {
    const actual = new ImageFile(file).sizeBytes();
    return failed("I/O error", `Block device size ${actual} does not match requested size ${sizeBytes}`);
  }
  return failed("I/O error", osError.message);
}

/**
 * Makes a working disk of a description, in the isolate that will use it.
 *
 * L4, I/O Worker; main only for a disk no Worker has attached.
 */
import type { Disk } from "@vmm/virtio/ports/disk.ts";
import type { DiskDescription } from "./description.ts";
import { FlatDisk } from "./flat.ts";
import { Qcow2Disk } from "./qcow2/disk.ts";
import { RawDisk } from "./raw.ts";
import { VhdxDisk } from "./vhdx/disk.ts";

/**
 * Attaches an image. One attached disk per image at a time, except for reading. A writable image that its last writer left
 * unfinished is repaired now. @throws OsError, ImageFault or HostFailure when the image is unusable
 */
export function attachDisk(description: DiskDescription): Disk {
  switch (description.format) {
    case "raw":
      return new RawDisk(description);
    case "vhd":
    case "vmdk":
      return new FlatDisk(description);
    case "qcow2":
      return new Qcow2Disk(description, description.backing && attachDisk(description.backing));
    case "vhdx":
      return new VhdxDisk(description);
  }
}

/** The same description, for a look that changes nothing. */
export function asReadonly(description: DiskDescription): DiskDescription {
  return { ...description, isProbe: true, file: { ...description.file, readonly: true } };
}

/**
 * Makes a working disk of a description, in the isolate that will use it.
 *
 * L4, I/O Worker; main only for a disk no Worker has attached.
 */
import type { Disk } from "@vmm/virtio/ports/disk.ts";
import type { DiskDescription } from "./description.ts";
import { ImageFault } from "./disk_error.ts";
import { FlatDisk } from "./flat.ts";
import { RawDisk } from "./raw.ts";

/** Attaches an image. One attached disk per image at a time. @throws OsError or ImageFault when the image is unusable */
export function attachDisk(description: DiskDescription): Disk {
  switch (description.format) {
    case "raw":
      return new RawDisk(description);
    case "vhd":
    case "vmdk":
      return new FlatDisk(description);
    default:
      throw new ImageFault("Unsupported feature", `${description.format} images are not supported`);
  }
}

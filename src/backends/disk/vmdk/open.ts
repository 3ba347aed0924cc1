/**
 * Opens the extents a VMDK descriptor names.
 *
 * L4, main isolate.
 */
import { O } from "@ffi/libc/fd.ts";
import type { ExtentDescription, FileDescription } from "../description.ts";
import { ImageFault } from "../disk_error.ts";
import { parseDescriptor } from "./descriptor.ts";

/** Opens one file of an image: given by `../open.ts`, which knows how. */
export type OpenExtent = (path: string, readonly: boolean, extraFlags: number) => FileDescription;

const O_NOFOLLOW = 0o400000;

/**
 * The extents of the descriptor in `bytes`, opened. The last component of a name may not be a symbolic link.
 *
 * @param descriptorPath names are relative to its directory
 * @throws ImageFault or what `openExtent` throws; what was opened until then is the caller's to close
 */
export function openExtents(
  bytes: Uint8Array,
  descriptorPath: string,
  readonly: boolean,
  openExtent: OpenExtent,
): ExtentDescription[] {
  const descriptor = parseDescriptor(bytes);
  if (typeof descriptor === "string") throw new ImageFault("Invalid format", descriptor);
  if (descriptor.extents.length === 0) {
    throw new ImageFault("Invalid format", "VMDK descriptor lists no extents");
  }
  const directory = descriptorPath.slice(0, descriptorPath.lastIndexOf("/") + 1);
  return descriptor.extents.map(({ access, lengthBytes, fileName, fileOffset }) => {
    if (lengthBytes === 0) throw new ImageFault("Invalid format", "VMDK flat extent has zero size");
    if (fileName === "" || fileName.includes("\0")) {
      throw new ImageFault("Invalid format", `VMDK extent filename '${fileName}' is empty`);
    }
    if (access === "NOACCESS") return { lengthBytes, fileOffset };
    const path = fileName.startsWith("/") ? fileName : directory + fileName;
    const file = openExtent(path, readonly || access === "RDONLY", O_NOFOLLOW | O.NOCTTY);
    return { file, lengthBytes, fileOffset };
  });
}

/**
 * A disk image opened by main, described so that an I/O Worker can use it: numbers, texts and descriptors only.
 *
 * L4, made on main by `open.ts`, used by `attach.ts` in the Worker.
 */

/** Image formats, as the original prints them. */
export type DiskFormat = "raw" | "qcow2" | "vhd" | "vhdx" | "vmdk";

/** One open file. */
export interface FileDescription {
  readonly fd: number;
  readonly path: string;
  /** What offsets, lengths and addresses must be multiples of; 1 unless the file is open for direct I/O. */
  readonly alignment: number;
  readonly isBlockDevice: boolean;
  readonly readonly: boolean;
}

/** A piece of a flat image in a file of its own. */
export interface ExtentDescription {
  /** Absent for an extent that may not be accessed. */
  readonly file?: FileDescription;
  readonly lengthBytes: number;
  readonly fileOffset: number;
}

/** An image, with the images it depends on. Plain and cloneable. */
export interface DiskDescription {
  readonly format: DiskFormat;
  readonly file: FileDescription;
  /** Size of the virtual disk when it was opened, in bytes. */
  readonly sizeBytes: number;
  /** Unneeded space may be given back to the host. */
  readonly sparse: boolean;
  /** Only looked at: what its last writer left undone does not matter. */
  readonly isProbe?: boolean;
  /** Use io_uring where it is the faster way, or never. */
  readonly ring: boolean;
  /** qcow2: the image below, if it has one and it may be used. */
  readonly backing?: DiskDescription;
  /** vmdk: the extents in order. */
  readonly extents?: readonly ExtentDescription[];
}

/** Block sizes in bytes, as the guest is told them; `optimalIo` 0 means unknown. */
export interface DiskTopology {
  readonly logical: number;
  readonly physical: number;
  readonly minimumIo: number;
  readonly optimalIo: number;
}

/** Topology of a file without any of its own. */
export const DEFAULT_TOPOLOGY: DiskTopology = { logical: 512, physical: 512, minimumIo: 512, optimalIo: 0 };

/**
 * How code deep inside an image format reports that the host failed, or that the image makes no sense.
 *
 * L4, I/O Worker. Thrown only on slow paths, and turned into `-errno` before it leaves the format.
 */
import { Errno } from "@ffi/abi/errno.ts";

/** A failed call: its errno. */
export class HostFailure extends Error {
  override readonly name: string = "HostFailure";
  constructor(readonly errno: number, what: string) {
    super(`${what}: errno ${errno}`);
  }
}

/** The image contradicts itself: nothing more may be written to it. */
export class ImageDamage extends HostFailure {
  override readonly name = "ImageDamage";
  constructor(what: string) {
    super(Errno.EIO, what);
  }
}

/** Passes a result on. @throws HostFailure when it is `-errno` */
export function must(result: number, what: string): number {
  if (result < 0) throw new HostFailure(-result, what);
  return result;
}

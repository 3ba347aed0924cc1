/**
 * Moves one access between a device and the operand bytes of an exit.
 *
 * L3, runs in the vCPU Worker that took the exit; allocates nothing. Odd sizes (a guest access that crosses a page comes
 * as pieces of 1 to 7 bytes) are done byte by byte.
 */
import type { IoDevice } from "./io_device.ts";

/** Fills `size` operand bytes with ones: a read that hit nothing. */
export function fillOnes(view: DataView, at: number, size: number): void {
  for (let i = 0; i < size; i++) view.setUint8(at + i, 0xff);
}

/** Performs an access of `size` bytes that lies wholly inside the device's window. */
export function transfer(
  device: IoDevice,
  offset: number,
  view: DataView,
  at: number,
  size: number,
  isWrite: boolean,
): void {
  if (size === 4) {
    if (isWrite) device.write(offset, 4, view.getUint32(at, true));
    else view.setUint32(at, device.read(offset, 4), true);
  } else if (size === 1) {
    if (isWrite) device.write(offset, 1, view.getUint8(at));
    else view.setUint8(at, device.read(offset, 1));
  } else if (size === 2) {
    if (isWrite) device.write(offset, 2, view.getUint16(at, true));
    else view.setUint16(at, device.read(offset, 2), true);
  } else if (size === 8) {
    transfer(device, offset, view, at, 4, isWrite);
    transfer(device, offset + 4, view, at + 4, 4, isWrite);
  } else {
    for (let i = 0; i < size; i++) transfer(device, offset + i, view, at + i, 1, isWrite);
  }
}

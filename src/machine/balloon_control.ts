/**
 * What main does with a running VM's balloon: asks for another size, and reads how far the guest got.
 *
 * L5, main isolate. Source: lifecycle page §3 "Balloon".
 */
import { balloonActualBytes, setBalloonTarget } from "@vmm/devices/virtio/balloon/model.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import { attachVirtioPci } from "@vmm/virtio/pci/block.ts";
import { CONFIG_CHANGED } from "@vmm/virtio/runner.ts";
import type { IoCalls } from "./io_threads.ts";
import type { PlacedDevice } from "./pci_topology.ts";
import type { VmDevices } from "./vm_devices.ts";

function findBalloon(devices: VmDevices): PlacedDevice | undefined {
  return [...devices.placed.values()].find(({ device }) => device.kind === "balloon");
}

/** Asks the guest for a balloon of `sizeBytes`; it complies when it likes. @throws ContextError without a balloon */
export async function resizeBalloon(
  devices: VmDevices,
  io: IoCalls,
  sizeBytes: bigint,
): Promise<void> {
  const balloon = findBalloon(devices);
  if (balloon === undefined) {
    throw new ContextError(
      ["Error from device manager"],
      new Error("Missing virtio-balloon, can't proceed as expected"),
    );
  }
  setBalloonTarget(attachVirtioPci(balloon.fn.block).deviceConfig, Number(sizeBytes));
  await io.call("command", { id: balloon.device.id, command: { kind: CONFIG_CHANGED } });
}

/** Bytes the guest says it has given up; 0 without a balloon. */
export function balloonActual(devices: VmDevices): bigint {
  const balloon = findBalloon(devices);
  return balloon === undefined
    ? 0n
    : BigInt(balloonActualBytes(attachVirtioPci(balloon.fn.block).deviceConfig));
}

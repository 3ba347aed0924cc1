import assert from "node:assert/strict";
import { VmmError } from "@vmm/errors/vmm_error.ts";
import { VirtioId } from "@vmm/virtio/device.ts";
import { deviceToRemove } from "./removal.ts";
import type { VmDevices } from "./vm_devices.ts";

/** Devices by id: type, segment, and whether they are behind the IOMMU. */
function devicesOf(given: Record<string, [virtioId: number, segment: number, iommu: boolean]>): VmDevices {
  const placed = Object.entries(given).map(([id, [virtioId, segment, iommu]]) =>
    [id, {
      device: { id, model: { virtioId } },
      descriptor: { iommu: iommu ? {} : undefined },
      fn: { segment },
      bdf: `000${segment}:00:04.0`,
    }] as const
  );
  return {
    placed: new Map(placed),
    iommu: { covers: (segment: number) => segment === 1 },
  } as unknown as VmDevices;
}

const DEVICES = devicesOf({
  disk: [VirtioId.block, 0, false],
  guarded: [VirtioId.block, 0, true],
  late: [VirtioId.net, 1, true],
  __rng: [VirtioId.rng, 0, false],
  odd: [40, 0, false],
});
const TREE = { disk: {}, __serial: {} };

Deno.test("deviceToRemove() finds a device by its own id and by its function's", () => {
  for (const id of ["disk", "_virtio-pci-disk"]) {
    assert.equal(deviceToRemove(DEVICES, TREE, id).device.id, "disk");
  }
  // On a segment that is behind the IOMMU as a whole devices come and go.
  assert.equal(deviceToRemove(DEVICES, TREE, "late").device.id, "late");
});

for (
  const [id, message] of [
    ["nobody", "Failed to find device corresponding to the given identifier: nobody"],
    ["toString", "Failed to find device corresponding to the given identifier: toString"],
    ["__serial", "Could not find the node in the device tree"],
    ["__rng", "Not allowed to remove this type of device from the VM: rng"],
    ["odd", "Not allowed to remove this type of device from the VM: unknown"],
    ["guarded", "Cannot remove device from behind vIOMMU: bdf=0000:00:04.0"],
  ]
) {
  Deno.test(`deviceToRemove() refuses "${id}"`, () => {
    assert.throws(() => deviceToRemove(DEVICES, TREE, id), (error) => {
      assert.ok(error instanceof VmmError);
      assert.deepEqual(error.chain(), ["Error from device manager", message]);
      return true;
    });
  });
}

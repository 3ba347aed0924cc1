/**
 * Adding a device, the part all `vm.add-*` operations share.
 *
 * L6, main isolate. Source: spec/lifecycle.md §4, spec/rest-api.md §4.
 */
import type { HotplugKind } from "@vmm/machine/vm_port.ts";
import { type ApiReply, EMPTY_REPLY, jsonReply } from "./command.ts";
import { withDevice } from "./device_lists.ts";
import type { PassedDescriptors } from "./passed_descriptors.ts";
import type { Vmm } from "./vmm.ts";

/**
 * Validates the whole configuration with `device` in it, then stores it (no instance) or plugs the device in. Of
 * `descriptors` it only says whether they were taken: `device` names them.
 * @throws ConfigError when a rule is broken, or what the machine failed with
 */
export async function addDevice(
  vmm: Vmm,
  kind: HotplugKind,
  device: object,
  descriptors?: PassedDescriptors,
): Promise<ApiReply> {
  const { validate } = await vmm.tools();
  const wanted = withDevice(vmm.wantConfig(), kind, device);
  // What follows from the device (the IOMMU, say) is stored when the VM boots, not now.
  validate(wanted);
  const { instance } = vmm;
  if (instance === undefined) {
    descriptors?.keep();
    await vmm.store(wanted);
    return EMPTY_REPLY;
  }
  const { id, bdf, config } = await instance.addDevice(kind, device);
  descriptors?.keep();
  await vmm.store(withDevice(vmm.wantConfig(), kind, { ...device, id, ...(config as object | undefined) }));
  return jsonReply(JSON.stringify({ id, bdf }));
}

/**
 * `vm.resize-zone`: changes the size of one memory zone.
 *
 * L6, main isolate. Source: spec/rest-api.md §4, spec/lifecycle.md §3.
 */
import type { MemoryZoneConfig } from "@schemas/api/memory.ts";
import { StateError } from "@vmm/errors/state_error.ts";
import { EMPTY_REPLY } from "../command.ts";
import type { Operation } from "../operation.ts";

/** Live zones grow by virtio-mem only; a VM that is not running gets the new size at boot. */
export const vmResizeZone: Operation<"vm.resize-zone"> = {
  name: "vm.resize-zone",
  failure: "The memory zone could not be resized",
  concurrency: "exclusive",
  async run(vmm, { body: { id, desired_ram } }) {
    const config = vmm.wantConfig();
    const zones = config.memory.zones ?? [];
    if (!zones.some((zone) => zone.id === id)) throw StateError.refused("Failed resizing a memory zone");
    const { instance } = vmm;
    await instance?.resizeZone(id, desired_ram);
    const change = (zone: MemoryZoneConfig): Partial<MemoryZoneConfig> =>
      instance === undefined ? { size: desired_ram } : { hotplugged_size: desired_ram - zone.size };
    const resized = zones.map((zone) => zone.id === id ? { ...zone, ...change(zone) } : zone);
    await vmm.store({ ...config, memory: { ...config.memory, zones: resized } });
    return EMPTY_REPLY;
  },
};

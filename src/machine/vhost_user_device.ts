/**
 * vhost-user devices in the I/O Worker: the link to the back-end, and the handler that gives it the rings.
 *
 * L5, I/O Worker.
 */
import { VhostUserLink } from "@vmm/backends/vhost_user/link.ts";
import type { SharedRegion } from "@vmm/backends/vhost_user/protocol.ts";
import { createVhostControl } from "@vmm/devices/virtio/net/vhost_user.ts";
import { createVhostUserHandler } from "@vmm/devices/virtio/vhost_user/handler.ts";
import type { GuestMemory, MappedRegion } from "@vmm/memory/guest_memory.ts";
import type {
  Activation,
  HandlerFactory,
  IoEnvironment,
  VirtioDeviceDescriptor,
} from "@vmm/virtio/device.ts";
import { attachVirtioPci, ConfigWrite, VirtioPciHead } from "@vmm/virtio/pci/block.ts";
import type { VmFd } from "@vmm/hypervisor/kvm/vm.ts";
import { MsixTable } from "@vmm/pci/msix.ts";
import type { IrqRoutes } from "./irq_routes.ts";
import { RingInterrupts } from "./ring_interrupts.ts";
import type { VhostUserBackend } from "./plug/vhost_user.ts";

/** What the Worker lends. */
export interface VhostUserServices {
  readonly env: IoEnvironment;
  readonly memory: GuestMemory;
  readonly vm: VmFd;
  readonly irqRoutes: IrqRoutes;
}

const CONFIG_WRITE = VirtioPciHead.index.configWrite;

function shared(region: MappedRegion): SharedRegion {
  if (region.file === undefined) {
    throw new Error(`Guest memory at 0x${region.gpa.toString(16)} is not shared: no back-end can reach it`);
  }
  return {
    gpa: region.gpa,
    sizeBytes: region.sizeBytes,
    hostAddress: BigInt(region.hostBase),
    fd: region.file.fd,
    fileOffset: region.file.offset,
  };
}

/** Takes over the back-end main found. @throws Error when guest memory is not shared */
export function attachVhostUser(
  descriptor: VirtioDeviceDescriptor,
  { env, memory, vm, irqRoutes }: VhostUserServices,
) {
  const { description, queuePairs } = descriptor.backend as VhostUserBackend;
  const state = attachVirtioPci(descriptor.block);
  memory.regions.forEach(shared);
  const link = new VhostUserLink(description, {
    id: descriptor.id,
    env,
    kickFds: descriptor.kickFds,
    config: state.deviceConfig.subarray(0, state.configLength),
    regions: () => memory.regions.map(shared),
  });

  /** Passes configuration bytes on, and what came meanwhile. */
  function forwardConfig(): void {
    const { words } = state;
    if (
      Atomics.compareExchange(words, CONFIG_WRITE, ConfigWrite.posted, ConfigWrite.taken) !==
        ConfigWrite.posted
    ) {
      return;
    }
    link.configWritten(() => {
      Atomics.compareExchange(words, CONFIG_WRITE, ConfigWrite.taken, ConfigWrite.none);
      Atomics.notify(words, CONFIG_WRITE);
    });
  }

  const interrupts = new RingInterrupts(state, new MsixTable(state, vm), irqRoutes, vm, link);
  state.vectorsFollowed = 1;
  interrupts.sync(); // a driver may have been quicker

  const local = queuePairs === undefined
    ? undefined
    : (activation: Activation) =>
      createVhostControl(activation, { queuePairs, limitPairs: (pairs) => link.limit(2 * pairs) });
  const rings = description.wishes.queueCount;
  const start: HandlerFactory = (activation) =>
    createVhostUserHandler(activation, { backend: link, rings, local });
  return {
    start,
    detach: () => {
      interrupts.close();
      link.close();
    },
    ownsKicks: true,
    woken: () => {
      forwardConfig();
      interrupts.sync();
    },
    regionAdded: (gpa: number) => {
      const region = memory.find(gpa, 1);
      if (region !== undefined) link.regionAdded(shared(region));
    },
  };
}

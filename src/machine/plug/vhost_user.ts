/**
 * Devices whose queues another process serves: vhost-user disks, network devices, file systems and others.
 *
 * L5, main isolate. Finding the back-end takes time, so it is done before the rest of the VM is made
 * (`connectVhostUsers`), and the devices are then described from what was found. Source: spec/machine-model.md §12.
 */
import type { DiskConfig } from "@schemas/api/disk.ts";
import type { NetConfig } from "@schemas/api/net.ts";
import type { FsConfig, GenericVhostUserConfig } from "@schemas/api/virtio_devices.ts";
import type { VmConfig } from "@schemas/api/vm_config.ts";
import {
  connectBackend,
  type ConnectedBackend,
  type ConnectRequest,
} from "@vmm/backends/vhost_user/connect.ts";
import {
  VHOST_USER_F_PROTOCOL_FEATURES,
  VHOST_USER_PROTOCOL_F_BACKEND_REQ,
  VHOST_USER_PROTOCOL_F_CONFIG,
  VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
  VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
  VHOST_USER_PROTOCOL_F_MQ,
  VHOST_USER_PROTOCOL_F_REPLY_ACK,
} from "@vmm/backends/vhost_user/protocol.ts";
import { formatMac, parseMac, randomMac } from "@vmm/base/mac_address.ts";
import {
  NET_CONFIG_BYTES,
  netConfigOf,
  netWishes,
  vhostNetModel,
} from "@vmm/devices/virtio/net/vhost_user.ts";
import * as models from "@vmm/devices/virtio/vhost_user/models.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import { featureMask } from "@vmm/virtio/features.ts";
import type { VhostUserDescription } from "@vmm/backends/vhost_user/description.ts";
import { type PciCommon, placementOf, type PluggedDevice } from "./plugged_device.ts";

/** Row of the I/O Worker's table. */
const VHOST_USER_KIND = "vhost-user";

/** What the I/O Worker gets. */
export interface VhostUserBackend {
  readonly description: VhostUserDescription;
  /** A network device, whose control queue is served here: its queue pairs. */
  readonly queuePairs?: number;
}

/** A kind of device, with the words the original has for a failure. */
interface Kind<Config> {
  readonly failure: string;
  request(config: Config): ConnectRequest;
}

const PROTOCOL_FEATURES = featureMask(
  VHOST_USER_PROTOCOL_F_MQ,
  VHOST_USER_PROTOCOL_F_REPLY_ACK,
  VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
  VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
);
const WITH_CONFIG = PROTOCOL_FEATURES | featureMask(VHOST_USER_PROTOCOL_F_CONFIG);
const WITH_REQUESTS = WITH_CONFIG | featureMask(VHOST_USER_PROTOCOL_F_BACKEND_REQ);
const OWN_FEATURES = featureMask(VHOST_USER_F_PROTOCOL_FEATURES);

const DISK: Kind<DiskConfig> = {
  failure: "Cannot create vhost-user-blk device",
  request: (config) => ({
    socket: config.vhost_socket ?? "",
    server: false,
    wishes: {
      features: models.blockWishes(config.num_queues) | OWN_FEATURES,
      protocolFeatures: WITH_REQUESTS,
      queueCount: config.num_queues,
      defaultQueueCount: 1,
      config: models.BLOCK_CONFIG_BYTES,
    },
    followsConfig: true,
    overrides: [models.blockOverride(config.num_queues)],
  }),
};

const NET: Kind<NetConfig> = {
  failure: "Cannot create vhost-user-net device",
  request: (config) => ({
    socket: config.vhost_socket ?? "",
    server: config.vhost_mode === "Server",
    wishes: {
      features: netWishes({
        offloadCsum: config.offload_csum,
        offloadTso: config.offload_tso,
        offloadUfo: config.offload_ufo,
      }) | OWN_FEATURES,
      protocolFeatures: WITH_CONFIG,
      queueCount: 2 * queuePairs(config),
      defaultQueueCount: 2,
      config: NET_CONFIG_BYTES,
    },
  }),
};

const FS: Kind<FsConfig> = {
  failure: "Cannot create virtio-fs device",
  request: (config) => ({
    socket: config.socket,
    server: false,
    wishes: {
      features: models.FS_WISHES | OWN_FEATURES,
      protocolFeatures: PROTOCOL_FEATURES,
      queueCount: 1 + config.num_queues,
      defaultQueueCount: 2,
      config: "none",
    },
  }),
};

const GENERIC: Kind<GenericVhostUserConfig> = {
  failure: "Cannot create generic vhost-user device",
  request: (config) => ({
    socket: config.socket,
    server: false,
    wishes: {
      features: models.GENERIC_WISHES | OWN_FEATURES,
      protocolFeatures: WITH_REQUESTS,
      queueCount: config.queue_sizes.length,
      defaultQueueCount: config.queue_sizes.length,
      config: "all",
    },
    followsConfig: true,
  }),
};

/** Back-ends that were found, by the configuration of their device. */
export class VhostUserLinks {
  readonly #found = new Map<unknown, ConnectedBackend>();

  /** Waits for one back-end. @throws ContextError */
  async disk(config: DiskConfig): Promise<void> {
    await this.#connect(DISK, config);
  }

  async net(config: NetConfig): Promise<void> {
    await this.#connect(NET, config);
  }

  async fs(config: FsConfig): Promise<void> {
    await this.#connect(FS, config);
  }

  async generic(config: GenericVhostUserConfig): Promise<void> {
    await this.#connect(GENERIC, config);
  }

  async #connect<Config>(kind: Kind<Config>, config: Config): Promise<void> {
    try {
      this.#found.set(config, await connectBackend(kind.request(config)));
    } catch (cause) {
      throw new ContextError(["Error from device manager", kind.failure], cause);
    }
  }

  /** The back-end of a device; whoever takes it releases it. */
  take(config: unknown): ConnectedBackend {
    const backend = this.#found.get(config);
    if (backend === undefined) throw new Error("No vhost-user back-end was connected for this device");
    this.#found.delete(config);
    return backend;
  }

  /** Closes what nobody took. */
  release(): void {
    for (const backend of this.#found.values()) backend.release();
    this.#found.clear();
  }
}

/** Waits for the back-ends of a configuration, in the order of their devices. @throws ContextError */
export async function connectVhostUsers(config: VmConfig): Promise<VhostUserLinks> {
  const links = new VhostUserLinks();
  try {
    for (const disk of config.disks ?? []) if (disk.vhost_user) await links.disk(disk);
    for (const net of config.net ?? []) if (net.vhost_user) await links.net(net);
    for (const generic of config.generic_vhost_user ?? []) await links.generic(generic);
    for (const fs of config.fs ?? []) await links.fs(fs);
    return links;
  } catch (error) {
    links.release();
    throw error;
  }
}

function queuePairs(config: NetConfig): number {
  return Math.floor(config.num_queues / 2);
}

function plugged(
  config: PciCommon,
  id: string,
  model: models.VhostUserModel,
  connected: ConnectedBackend,
  queuePairs?: number,
): PluggedDevice {
  const backend: VhostUserBackend = { description: connected.description, queuePairs };
  return {
    id,
    kind: VHOST_USER_KIND,
    placement: placementOf(config),
    model,
    backend,
    config: { ...config, id },
    warnings: [],
    release: () => connected.release(),
  };
}

/** Describes a disk. */
export function plugVhostUserDisk(
  config: DiskConfig,
  id: string,
  connected: ConnectedBackend,
): PluggedDevice {
  const { agreement } = connected.description;
  const model = models.blockModel(agreement.features, connected.config, config.num_queues, config.queue_size);
  return plugged(config, id, model, connected);
}

/** Describes a network device. Address and MTU: the configuration's, else the back-end's; without either a random address. */
export function plugVhostUserNet(config: NetConfig, id: string, connected: ConnectedBackend): PluggedDevice {
  const agreed = connected.description.agreement.features;
  const told = netConfigOf(connected.config, agreed);
  const mac = (config.mac === undefined ? undefined : parseMac(config.mac)) ?? told.mac ?? randomMac();
  const pairs = queuePairs(config);
  const model = vhostNetModel({
    agreed,
    mac,
    mtu: config.mtu ?? told.mtu,
    queuePairs: pairs,
    queueSize: config.queue_size,
  });
  const device = plugged(config, id, model, connected, pairs);
  return { ...device, config: { ...config, id, mac: formatMac(mac) } };
}

/** Describes a file system. */
export function plugFs(config: FsConfig, id: string, connected: ConnectedBackend): PluggedDevice {
  const { features } = connected.description.agreement;
  const model = models.fsModel(features, config.tag, config.num_queues, config.queue_size);
  return plugged(config, id, model, connected);
}

/** Describes a device of which only the type is known. */
export function plugGenericVhostUser(
  config: GenericVhostUserConfig,
  id: string,
  connected: ConnectedBackend,
): PluggedDevice {
  const { features } = connected.description.agreement;
  const model = models.genericModel(features, connected.config, config.device_type, config.queue_sizes);
  return plugged(config, id, model, connected);
}

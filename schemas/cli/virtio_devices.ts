/**
 * Parameters of the smaller virtio devices: balloon, rng, rtc, fs, generic vhost-user, pmem, vdpa, vsock.
 *
 * L0. Source: spec/cli.md §2, spec/schemas.md "Others".
 */
import type {
  BalloonConfig,
  FsConfig,
  GenericVhostUserConfig,
  PmemConfig,
  RngConfig,
  RtcConfig,
  VdpaConfig,
  VsockConfig,
} from "@schemas/api/virtio_devices.ts";
import { parametersOf } from "./parameter.ts";
import { pciParameters, pciSlotParameters } from "./pci_common.ts";

export const balloonParameters = parametersOf<BalloonConfig>()({
  ...pciParameters,
  size: { kind: "size", field: "size", value: "<size>", default: 0n, doc: "Memory taken from the guest" },
  deflate_on_oom: {
    kind: "toggle",
    field: "deflate_on_oom",
    default: false,
    doc: "Give memory back when the guest runs out of it",
  },
  free_page_reporting: {
    kind: "toggle",
    field: "free_page_reporting",
    default: false,
    doc: "Let the guest report free pages",
  },
});

export const rngParameters = parametersOf<RngConfig>()({
  ...pciParameters,
  src: { kind: "string", field: "src", value: "<path>", default: "/dev/urandom", doc: "Entropy source" },
});

export const rtcParameters = parametersOf<RtcConfig>()({ ...pciParameters });

export const fsParameters = parametersOf<FsConfig>()({
  ...pciSlotParameters,
  tag: {
    kind: "string",
    field: "tag",
    value: "<tag>",
    missing: "Error parsing --fs: tag missing",
    longest: [36, "Error parsing --fs: max tag length is 36"],
    doc: "Name the guest mounts it by, at most 36 bytes",
  },
  socket: {
    kind: "string",
    field: "socket",
    value: "<socket_path>",
    missing: "Error parsing --fs: socket missing",
    doc: "Socket of the virtiofsd",
  },
  num_queues: {
    kind: "usize",
    field: "num_queues",
    value: "<number>",
    default: 1,
    doc: "Number of request queues",
  },
  queue_size: { kind: "u16", field: "queue_size", value: "<size>", default: 1024, doc: "Size of each queue" },
});

export const genericVhostUserParameters = parametersOf<GenericVhostUserConfig>()({
  ...pciSlotParameters,
  socket: {
    kind: "string",
    field: "socket",
    value: "<socket_path>",
    missing: "Error parsing --generic-vhost-user: socket missing",
    doc: "Socket of the back-end",
  },
  queue_sizes: {
    kind: "u16List",
    field: "queue_sizes",
    value: "[<size>,...]",
    missing: "Error parsing --generic-vhost-user: queue size missing",
    doc: "Size of each queue",
  },
  virtio_id: {
    kind: "special",
    field: "device_type",
    hidden: true,
    doc: "Older name of `device_type`",
  },
  device_type: {
    kind: "special",
    field: "device_type",
    value: "<number or name>",
    doc: "Virtio device type, as `fs`, `gpio`, `26`",
  },
});

export const pmemParameters = parametersOf<PmemConfig>()({
  ...pciParameters,
  file: {
    kind: "string",
    field: "file",
    value: "<path>",
    missing: "Error parsing --pmem: file missing",
    doc: "Backing file, or a directory for a temporary one",
  },
  size: { kind: "size", field: "size", value: "<size>", doc: "Size; needed when `file` is a directory" },
  discard_writes: {
    kind: "toggle",
    field: "discard_writes",
    default: false,
    doc: "Keep the guest's writes out of the file",
  },
});

export const vdpaParameters = parametersOf<VdpaConfig>()({
  ...pciParameters,
  path: {
    kind: "string",
    field: "path",
    value: "<path>",
    missing: "Error parsing --vdpa: path missing",
    doc: "vhost-vdpa character device",
  },
  num_queues: {
    kind: "usize",
    field: "num_queues",
    value: "<number>",
    default: 1,
    doc: "Number of queues",
  },
});

export const vsockParameters = parametersOf<VsockConfig>()({
  ...pciParameters,
  cid: {
    kind: "u32",
    field: "cid",
    value: "<context_id>",
    missing: "Error parsing --vsock: cid missing",
    doc: "Guest context identifier, at least 3",
  },
  socket: {
    kind: "string",
    field: "socket",
    value: "<socket_path>",
    missing: "Error parsing --vsock: socket missing",
    doc: "UNIX socket the connections are proxied through",
  },
});

/** Virtio device types by the names `device_type` takes; virtio 1.2 §5. */
export const VIRTIO_DEVICE_TYPES: Readonly<Record<string, number>> = {
  net: 1,
  block: 2,
  console: 3,
  rng: 4,
  balloon: 5,
  iomem: 6,
  rpmsg: 7,
  scsi: 8,
  "9p": 9,
  rproc_serial: 11,
  caif: 12,
  memory_balloon: 13,
  gpu: 16,
  clock: 17,
  input: 18,
  vsock: 19,
  crypto: 20,
  signal_dist: 21,
  pstore: 22,
  iommu: 23,
  mem: 24,
  sound: 25,
  fs: 26,
  pmem: 27,
  rpmb: 28,
  mac80211_hwsim: 29,
  video_encoder: 30,
  scmi: 32,
  nitro_sec_mod: 33,
  i2c: 34,
  watchdog: 35,
  can: 36,
  dmabuf: 37,
  param_serv: 38,
  audio_policy: 39,
  bt: 40,
  gpio: 41,
  rdma: 42,
  camera: 43,
  ism: 44,
  spi: 45,
  tee: 46,
  media: 48,
  usb: 49,
};

/** Device types no vhost-user back-end can serve. */
export const IN_PROCESS_DEVICE_TYPES: readonly number[] = [
  VIRTIO_DEVICE_TYPES.iommu,
  VIRTIO_DEVICE_TYPES.watchdog,
];

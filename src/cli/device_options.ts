/**
 * Values of the device options (`--disk`, `--net`, …) as configuration structures.
 *
 * L6, main isolate. Used for the VMM's own command line and by the remote client's `add-*`.
 * Source: spec/cli.md §2, spec/observed.md "Command line values"; texts as the original prints them.
 */
import type {
  DeviceConfig,
  IvshmemConfig,
  TpmConfig,
  UserDeviceConfig,
} from "@schemas/api/assigned_device.ts";
import type { DiskConfig } from "@schemas/api/disk.ts";
import type { NetConfig } from "@schemas/api/net.ts";
import type { RateLimiterGroupConfig } from "@schemas/api/rate_limiter.ts";
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
import {
  deviceParameters,
  ivshmemParameters,
  tpmParameters,
  userDeviceParameters,
} from "@schemas/cli/assigned_device.ts";
import { diskParameters } from "@schemas/cli/disk.ts";
import { netParameters } from "@schemas/cli/net.ts";
import type { ParameterTable } from "@schemas/cli/parameter.ts";
import { rateLimitGroupParameters } from "@schemas/cli/rate_limiter.ts";
import {
  balloonParameters,
  fsParameters,
  genericVhostUserParameters,
  IN_PROCESS_DEVICE_TYPES,
  pmemParameters,
  rngParameters,
  rtcParameters,
  vdpaParameters,
  VIRTIO_DEVICE_TYPES,
  vsockParameters,
} from "@schemas/cli/virtio_devices.ts";
import { OptionError } from "./option_error.ts";
import { readUnsigned, withoutQuotes } from "./option_parser.ts";
import { labelled, type ReadingRules, readOption } from "./option_reader.ts";

/** Reads the value of one option. @throws OptionError or ContextError, with the option's name in the chain */
export type OptionReader<T> = (text: string) => T;

/** A reader whose table says all there is to say; the compiler has checked the table against `T`. */
function tableReader<T>(label: string, table: ParameterTable, rules: ReadingRules = {}): OptionReader<T> {
  return (text) => labelled(label, () => readOption(table, text, rules).fields as T);
}

/** The same for devices that cannot sit behind the virtual IOMMU: the parameter is unknown, the field is there. */
function slotReader<T extends { iommu: boolean }>(
  label: string,
  table: ParameterTable,
  rules: ReadingRules = {},
): OptionReader<T> {
  const read = tableReader<Omit<T, "iommu">>(label, table, rules);
  return (text) => ({ iommu: false, ...read(text) }) as T;
}

export const readDisk = tableReader<DiskConfig>("Error parsing --disk", diskParameters);
export const readNet = tableReader<NetConfig>("Error parsing --net", netParameters);
export const readFs = slotReader<FsConfig>("Error parsing --fs", fsParameters);
export const readPmem = tableReader<PmemConfig>("Error parsing --pmem", pmemParameters, { pciFirst: true });
export const readUserDevice = slotReader<UserDeviceConfig>(
  "Error parsing --user-device",
  userDeviceParameters,
  { pciFirst: true },
);
export const readVdpa = tableReader<VdpaConfig>("Error parsing --vdpa", vdpaParameters, { pciFirst: true });
export const readBalloon = tableReader<BalloonConfig>("Error parsing --balloon", balloonParameters);
export const readRng = tableReader<RngConfig>("Error parsing --rng", rngParameters);
export const readRtc = tableReader<RtcConfig>("Error parsing --rtc", rtcParameters);
export const readIvshmem = slotReader<IvshmemConfig>("Error parsing --ivshmem", ivshmemParameters);
export const readTpm = tableReader<TpmConfig>("Error parsing --tpm", tpmParameters);
export const readRateLimitGroup: OptionReader<RateLimiterGroupConfig> = (text) =>
  labelled("Error parsing --rate-limit-group", () => ({
    rate_limiter_config: {},
    ...readOption(rateLimitGroupParameters, text).fields as Pick<RateLimiterGroupConfig, "id">,
  }));

/** The original looks at the socket first. */
const VSOCK_TABLE: ParameterTable = {
  ...vsockParameters,
  cid: { ...vsockParameters.cid, missing: undefined },
};

export const readVsock: OptionReader<VsockConfig> = (text) =>
  labelled("Error parsing --vsock", () => {
    const check = (given: ReadonlyMap<string, string>) => {
      if (!given.get("cid")) throw OptionError.rule(vsockParameters.cid.missing!);
    };
    return readOption(VSOCK_TABLE, text, { pciFirst: true, check }).fields as VsockConfig;
  });

export const readDevice: OptionReader<DeviceConfig> = (text) =>
  labelled("Error parsing --device", () => {
    const fields = readOption(deviceParameters, text, { pciFirst: true }).fields as
      & Omit<DeviceConfig, "x_exclude_mmap_bars">
      & Partial<DeviceConfig>;
    return { ...fields, x_exclude_mmap_bars: fields.x_exclude_mmap_bars ?? [] };
  });

/** A virtio device type by number (without leading zeros) or by name. */
function readDeviceType(raw: string): number {
  const text = withoutQuotes(raw);
  const number = /^[1-9][0-9]*$/.test(text) ? readUnsigned(text, 0xffff_ffff) : undefined;
  const type = number ?? (Object.hasOwn(VIRTIO_DEVICE_TYPES, text) ? VIRTIO_DEVICE_TYPES[text] : undefined);
  const quoted = JSON.stringify(text);
  if (type === undefined) {
    throw OptionError.rule(
      `Error parsing --generic-vhost-user: device_type ${quoted} invalid (leading zeros or unknown string)`,
    );
  }
  if (IN_PROCESS_DEVICE_TYPES.includes(type)) {
    throw OptionError.rule(
      `Error parsing --generic-vhost-user: device with device_type ${quoted} cannot be implemented via vhost-user`,
    );
  }
  return type;
}

export const readGenericVhostUser: OptionReader<GenericVhostUserConfig> = (text) =>
  labelled("Error parsing --generic-vhost-user", () => {
    // Only the one that counts is looked at: `device_type`, else its older name.
    const keep = (raw: string) => raw;
    const { fields } = readOption(genericVhostUserParameters, text, {
      special: { device_type: keep, virtio_id: keep },
      check: (given) => {
        if (!given.get("device_type") && !given.get("virtio_id")) {
          throw OptionError.rule("Error parsing --generic-vhost-user: device_type missing");
        }
      },
    });
    fields.device_type = readDeviceType(fields.device_type as string);
    return { iommu: false, ...fields } as GenericVhostUserConfig;
  });

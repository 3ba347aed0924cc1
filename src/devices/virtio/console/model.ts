/**
 * What a console device offers: features, queues and configuration bytes.
 *
 * L4, main isolate (`setConsoleSize` also in the I/O Worker). Source: virtio 1.2 §5.3.2 to §5.3.4; spec/machine-model.md §8.
 */
import type { WindowSize } from "@vmm/bus/char_device.ts";
import { VirtioId } from "@vmm/virtio/device.ts";
import { featureMask, VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1 } from "@vmm/virtio/features.ts";
import type { VirtioPciDescription } from "@vmm/virtio/pci/create.ts";

export const VIRTIO_CONSOLE_F_SIZE = 0;

/** Queues of port 0. */
export const RECEIVE_QUEUE = 0;
export const TRANSMIT_QUEUE = 1;
const QUEUE_SIZE = 256;

/** struct virtio_console_config: offsets in bytes. */
export const ConsoleConfigLayout = { cols: 0, rows: 2, max_nr_ports: 4, emerg_wr: 8, size: 12 } as const;

/** What decides how a console looks to the guest. */
export interface ConsoleModelOptions {
  /** Size of the terminal behind it; none: 0 × 0. */
  readonly windowSize?: WindowSize;
  /** The device is behind the virtual IOMMU. */
  readonly iommu: boolean;
}

/** The part of a transport description that the model decides. */
export type ConsoleModel = Pick<VirtioPciDescription, "virtioId" | "queueSizes" | "features" | "config">;

/** Builds the model. Never throws. */
export function consoleModel(options: ConsoleModelOptions): ConsoleModel {
  const bits = [VIRTIO_F_VERSION_1, VIRTIO_CONSOLE_F_SIZE];
  if (options.iommu) bits.push(VIRTIO_F_ACCESS_PLATFORM);
  const config = new Uint8Array(ConsoleConfigLayout.size);
  config[ConsoleConfigLayout.max_nr_ports] = 1;
  if (options.windowSize !== undefined) setConsoleSize(config, options.windowSize);
  return {
    virtioId: VirtioId.console,
    queueSizes: [QUEUE_SIZE, QUEUE_SIZE],
    features: featureMask(...bits),
    config,
  };
}

/** Writes the size into configuration bytes; true if it differs from what was there. */
export function setConsoleSize(config: Uint8Array, size: WindowSize): boolean {
  const columns = setU16(config, ConsoleConfigLayout.cols, size.columns);
  const rows = setU16(config, ConsoleConfigLayout.rows, size.rows);
  return columns || rows;
}

function setU16(config: Uint8Array, offset: number, value: number): boolean {
  const changed = (config[offset] | (config[offset + 1] << 8)) !== value;
  config[offset] = value & 0xff;
  config[offset + 1] = value >> 8;
  return changed;
}

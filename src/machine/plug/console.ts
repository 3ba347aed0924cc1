/**
 * virtio-console: always present unless its mode is Off.
 *
 * L5, main isolate.
 */
import { isTerminal, windowSize } from "@ffi/libc/pty.ts";
import type { ConsoleConfig } from "@schemas/api/console.ts";
import type { ChardevDescriptor } from "@vmm/backends/chardev/open_chardev.ts";
import { consoleModel } from "@vmm/devices/virtio/console/model.ts";
import { placementOf, type PluggedDevice } from "./plugged_device.ts";

/** Id of the one console. */
export const CONSOLE_ID = "__console";

/** Describes the console over a back-end that was opened with the configuration. Never throws. */
export function plugConsole(config: ConsoleConfig, chardev: ChardevDescriptor): PluggedDevice {
  const fd = chardev.kind === "tty" ? chardev.writeFd : -1;
  const size = fd >= 0 && isTerminal(fd) ? windowSize(fd) : undefined;
  return {
    id: config.id ?? CONSOLE_ID,
    kind: "console",
    placement: placementOf(config),
    model: consoleModel({ windowSize: size, iommu: config.iommu }),
    backend: chardev,
    config,
    warnings: [],
    release() {},
  };
}

/**
 * virtio-vsock over UNIX sockets.
 *
 * L5, main isolate. The device's socket is there as long as the device; connections are made once the guest's driver runs.
 */
import { Errno, OsError } from "@ffi/abi/errno.ts";
import { close } from "@ffi/libc/fd.ts";
import type { VsockConfig } from "@schemas/api/virtio_devices.ts";
import { openSocketFile, removeSocketFile } from "@vmm/backends/socket_file.ts";
import type { VsockBackend } from "@vmm/backends/vsock/stream_host.ts";
import { vsockModel } from "@vmm/devices/virtio/vsock/model.ts";
import { ContextError } from "@vmm/errors/context_error.ts";
import { placementOf, type PluggedDevice } from "./plugged_device.ts";

/** Programs that may be waiting to be accepted; the kernel has a limit of its own (net.core.somaxconn). */
const BACKLOG = 4096;

/** Opens the socket and describes the device. @throws ContextError with the original's words */
export function plugVsock(config: VsockConfig, id: string): PluggedDevice {
  const { socket: path, cid, iommu } = config;
  let file;
  try {
    file = openSocketFile(path, BACKLOG);
  } catch (cause) {
    throw new ContextError(
      [
        "Error from device manager",
        "Cannot create virtio-vsock backend",
        "Error binding to the host-side Unix socket",
      ],
      reasonOf(cause),
    );
  }
  const { fd, inode } = file;
  const backend: VsockBackend = { listenFd: fd, path };
  return {
    id,
    kind: "vsock",
    placement: placementOf(config),
    model: vsockModel({ cid, iommu }),
    backend,
    config: { ...config, id },
    warnings: [],
    release() {
      close(fd);
      removeSocketFile({ path, inode });
    },
  };
}

function reasonOf(cause: unknown): unknown {
  const isTooLong = cause instanceof OsError && cause.code === Errno.ENAMETOOLONG;
  return isTooLong ? new Error("path must be shorter than SUN_LEN") : cause;
}

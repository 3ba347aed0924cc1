/**
 * Nephos as a library: a VMM inside one's own program, a typed client of one that runs elsewhere, and the types of everything
 * they take and return.
 *
 * ```ts ignore
 * import { Vmm } from "./mod.ts";
 *
 * await using vmm = await Vmm.start();
 * await vmm.create({ payload: { kernel: "/boot/vmlinux" }, memory: { size: 1n << 30n } });
 * await vmm.boot();
 * ```
 *
 * `docs/embedding.md` is about that. `VmmClient` has the same methods and talks to a program: start one with
 * `nephos --api-socket /run/vm.sock`, then:
 *
 * ```ts ignore
 * import { ApiError, VmmClient } from "./mod.ts";
 *
 * const vmm = new VmmClient("/run/vm.sock");
 * await vmm.create({ payload: { kernel: "/boot/vmlinux" }, memory: { size: 1n << 30n } });
 * await vmm.boot();
 * console.log((await vmm.info()).state); // "Running"
 *
 * for await (const { source, event } of vmm.events()) {
 *   console.log(source, event);
 *   if (event === "shutdown") break;
 * }
 *
 * try {
 *   await vmm.removeDevice("none");
 * } catch (error) {
 *   if (error instanceof ApiError) console.log(error.status, error.messages);
 * }
 * ```
 *
 * Programs to run are in `examples/`: `boot_vm.ts` and `watch_events.ts`.
 *
 * @module
 */
export { AnswerError } from "@vmm/client/answer_error.ts";
export { ApiError } from "@vmm/client/api_error.ts";
export { EventStreamError } from "@vmm/client/event_decoder.ts";
export { VmmClient } from "@vmm/client/vmm_client.ts";
export {
  type DeviceConfigInput,
  type DiskConfigInput,
  type FsConfigInput,
  type GenericVhostUserConfigInput,
  type NetConfigInput,
  type PmemConfigInput,
  type ReceiveMigrationDataInput,
  type RequestOptions,
  type RestoreConfigInput,
  type SendMigrationDataInput,
  type UserDeviceConfigInput,
  type VdpaConfigInput,
  type VmConfigInput,
  VmmOperations,
  type VsockConfigInput,
} from "@vmm/client/vmm_operations.ts";
export { ResponseError } from "@vmm/remote/response.ts";
export { Vmm, type VmmEnd, type VmmOptions } from "@vmm/embed/vmm.ts";
export type { Dialect } from "@vmm/api/serve_service.ts";
export type { LogSettings } from "@vmm/log/logger.ts";
export type {
  DeviceConfig,
  IvshmemConfig,
  TpmConfig,
  UserDeviceConfig,
} from "@schemas/api/assigned_device.ts";
export type { ConsoleConfig, ConsoleMode, DebugConsoleConfig, SerialConfig } from "@schemas/api/console.ts";
export type { CpuAffinity, CpusConfig, CpuTopology } from "@schemas/api/cpus.ts";
export type { DiskConfig, ImageType } from "@schemas/api/disk.ts";
export type { EventSource, VmmEvent } from "@schemas/api/event.ts";
export type { MemoryConfig, MemoryZoneConfig } from "@schemas/api/memory.ts";
export type { ReceiveMigrationData, RestoreConfig, SendMigrationData } from "@schemas/api/migration.ts";
export type { NetConfig } from "@schemas/api/net.ts";
export type { NumaConfig } from "@schemas/api/numa.ts";
export type { FwCfgConfig, PayloadConfig } from "@schemas/api/payload.ts";
export type { LandlockConfig, PciSegmentConfig, PlatformConfig } from "@schemas/api/platform.ts";
export type {
  RateLimiterConfig,
  RateLimiterGroupConfig,
  TokenBucketConfig,
} from "@schemas/api/rate_limiter.ts";
export type { VmResize, VmResizeDisk, VmResizeZone } from "@schemas/api/requests.ts";
export type {
  BalloonConfig,
  FsConfig,
  GenericVhostUserConfig,
  PmemConfig,
  RngConfig,
  RtcConfig,
  VdpaConfig,
  VsockConfig,
} from "@schemas/api/virtio_devices.ts";
export type { VmConfig } from "@schemas/api/vm_config.ts";
export type {
  DeviceNode,
  PciDeviceInfo,
  VmCounters,
  VmInfo,
  VmmPingResponse,
  VmState,
} from "@schemas/api/vm_info.ts";

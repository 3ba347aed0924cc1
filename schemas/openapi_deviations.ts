/**
 * Where our OpenAPI document differs on purpose from the original's, and why.
 *
 * L0, data. Checked both ways by `scripts/openapi_drift.ts`: a difference that is not listed fails, and so does an entry
 * that explains nothing any more.
 */
import type { OpenApiDeviation } from "./openapi_facts.ts";

const WIDTH =
  "one of the two formats OpenAPI 3.0 defines, which holds what is really read; generators take others for 32 bits";
const LIMITS = "the limits of what is really read, which the original's document does not tell";
const REAL_DEFAULT = "the value an absent field gets, which the original's document does not tell";
const NAMED_ENUM = "lists the values, which the original's document leaves open";
const OPTIONAL = "has a default in both programs, although the original's document requires it";
const REQUIRED =
  "is refused as missing by both programs, although the original's document does not require it";
const ALWAYS = "is always answered by both programs";
const UNDOCUMENTED = "accepted by both programs and absent from the original's document";
const NOT_BUILT =
  "a build feature that neither this program nor the build compared with has; ignored as unknown";
const WHERE_USED = "the default stands at the field that uses the type";
const NEVER = "never answered by the original, whatever its document says";
const REAL_STATUS = "answered by both programs and absent from the original's document";
const RESOURCE = "describes the resources, which the original's document leaves open";

const format = (
  theirs: string | undefined,
  ours: string,
  at = "schemas/*/properties/*/format",
): OpenApiDeviation => ({
  at,
  theirs,
  ours,
  reason: WIDTH,
});
const ITEMS_FORMAT = "schemas/*/properties/*/items/format";
const each = (reason: string, places: readonly string[]): OpenApiDeviation[] =>
  places.map((at) => ({ at, reason }));
const missing = (status: number, operations: readonly string[]): OpenApiDeviation[] =>
  operations.map((operation) => ({
    at: `paths/${operation}/put/responses/${status}`,
    ours: undefined,
    reason: NEVER,
  }));

/** The list. */
export const OPENAPI_DEVIATIONS: readonly OpenApiDeviation[] = [
  // Statuses.
  {
    at: "paths/vmm.shutdown/put/responses/200",
    reason: "the original answers 200, its document says 204",
  },
  ...missing(204, ["vmm.shutdown"]),
  {
    at: "paths/*/*/responses/400",
    theirs: "",
    ours: "ErrorMessages",
    reason: "describes the body of errors",
  },
  {
    at: "paths/*/*/responses/404",
    theirs: "",
    ours: "ErrorMessages",
    reason: "describes the body of errors",
  },
  {
    at: "paths/*/*/responses/409",
    theirs: "",
    ours: "ErrorMessages",
    reason: "describes the body of errors",
  },
  {
    at: "paths/*/*/responses/429",
    theirs: "",
    ours: "ErrorMessages",
    reason: "describes the body of errors",
  },
  {
    at: "paths/*/*/responses/500",
    theirs: "",
    ours: "ErrorMessages",
    reason: "describes the body of errors",
  },
  { at: "paths/*/*/responses/400", theirs: undefined, ours: "ErrorMessages", reason: REAL_STATUS },
  { at: "paths/vm.boot/put/responses/409", theirs: undefined, ours: "ErrorMessages", reason: REAL_STATUS },
  { at: "paths/*/*/responses/500", theirs: undefined, ours: "ErrorMessages", reason: REAL_STATUS },
  { at: "paths/*/*/responses/405", ours: undefined, reason: NEVER },
  ...missing(404, [
    "vm.pause",
    "vm.resume",
    "vm.shutdown",
    "vm.power-button",
    "vm.snapshot",
    "vm.coredump",
    "vm.restore",
  ]),
  ...each("describes the body of errors", ["schemas/ErrorMessages/**"]),
  // Integers.
  format("int8", "int32"),
  format("int16", "int32"),
  format("int32", "int64"),
  format("uint8", "int32"),
  format("uint32", "int64"),
  format(undefined, "int32"),
  format(undefined, "int64"),
  format("int16", "int32", ITEMS_FORMAT),
  format("uint16", "int32", ITEMS_FORMAT),
  format("int32", "int64", ITEMS_FORMAT),
  format(undefined, "int32", ITEMS_FORMAT),
  format(undefined, "int64", ITEMS_FORMAT),
  ...[
    "schemas/*/properties/*/minimum",
    "schemas/*/properties/*/maximum",
    "schemas/*/properties/*/items/minimum",
    "schemas/*/properties/*/items/maximum",
    "schemas/VmCounters/additionalProperties/additionalProperties/minimum",
  ].map((at) => ({ at, theirs: undefined, reason: LIMITS })),
  // Enumerations.
  ...each(NAMED_ENUM, [
    "schemas/HotplugMethod/**",
    "schemas/VhostMode/**",
    "schemas/MemoryConfig/properties/hotplug_method/is",
    "schemas/MemoryConfig/properties/hotplug_method/type",
    "schemas/NetConfig/properties/vhost_mode/is",
    "schemas/NetConfig/properties/vhost_mode/type",
  ]),
  ...each(WHERE_USED, [
    "schemas/CoreSchedulingMode/default",
    "schemas/LockGranularity/default",
    "schemas/MemoryRestoreMode/default",
    "schemas/MigrationMode/default",
    "schemas/TimeoutStrategy/default",
  ]),
  ...each(UNDOCUMENTED, ["schemas/ImageType/enum/FlatVmdk"]),
  // Defaults and requirements.
  { at: "schemas/*/properties/*/default", theirs: undefined, reason: REAL_DEFAULT },
  ...each("no default is applied since v49", [
    "schemas/NetConfig/properties/ip/default",
    "schemas/NetConfig/properties/mask/default",
  ]),
  ...each(OPTIONAL, [
    "schemas/FsConfig/required/num_queues",
    "schemas/FsConfig/required/queue_size",
    "schemas/NumaDistance/required/*",
    "schemas/PciSegmentConfig/required/pci_segment",
    "schemas/RateLimitGroupConfig/required/*",
    "schemas/VdpaConfig/required/num_queues",
    "schemas/VmConfig/required/payload",
  ]),
  ...each(REQUIRED, [
    "schemas/CpuTopology/required/*",
    "schemas/VmCoredumpData/required/destination_url",
    "schemas/VmRemoveDevice/required/id",
    "schemas/VmResizeDisk/required/*",
    "schemas/VmResizeZone/required/*",
    "schemas/VmSnapshotConfig/required/destination_url",
  ]),
  ...each(ALWAYS, [
    "schemas/DeviceNode/required/*",
    "schemas/VmInfo/required/memory_actual_size",
    "schemas/VmmPingResponse/required/*",
  ]),
  ...each("written as null when absent, by both programs", [
    "schemas/TokenBucket/nullable",
    "schemas/TokenBucket/properties/one_time_burst/nullable",
  ]),
  ...each("unknown fields are refused by both programs", ["schemas/RateLimiterConfig/additionalProperties"]),
  // Fields and structures.
  ...each(UNDOCUMENTED, [
    "schemas/CpuProfile/**",
    "schemas/CpusConfig/properties/profile/is",
    "schemas/DiskConfig/properties/disable_aio/type",
    "schemas/DiskConfig/properties/disable_io_uring/type",
    "schemas/FsConfig/properties/iommu/type",
    "schemas/GenericVhostUserConfig/properties/iommu/type",
    "schemas/UserDeviceConfig/properties/iommu/type",
    "schemas/FwCfgConfig/**",
    "schemas/FwCfgItem/**",
    "schemas/FwCfgItemList/**",
    "schemas/PayloadConfig/properties/fw_cfg_config/is",
    "schemas/IvshmemConfig/**",
    "schemas/VmConfig/properties/gdb/type",
    "schemas/VmConfig/properties/ivshmem/is",
    "schemas/SendMigrationData/properties/preserve_source/type",
  ]),
  ...each(`${UNDOCUMENTED}; descriptors themselves come beside the request`, [
    "schemas/DeviceConfig/properties/fd/**",
    "schemas/NetConfig/properties/fds/**",
    "schemas/PlatformConfig/properties/iommufd_fd/**",
    "schemas/RestoreConfig/properties/iommufd_fd/**",
    "schemas/RestoreConfig/properties/net_fds/**",
    "schemas/RestoreConfig/properties/vfio_fds/**",
    "schemas/ReceiveMigrationData/properties/iommufd_fd/**",
    "schemas/ReceiveMigrationData/properties/vfio_fds/**",
    "schemas/RestoredNetConfig/**",
    "schemas/RestoredVfioConfig/**",
  ]),
  ...each(NOT_BUILT, [
    "schemas/PayloadConfig/properties/host_data/type",
    "schemas/PayloadConfig/properties/igvm/type",
    "schemas/PlatformConfig/properties/sev_snp/**",
    "schemas/PlatformConfig/properties/tdx/**",
  ]),
  ...each("the whole device structure is accepted by both programs", [
    "paths/vm.add-user-device/put/request",
    "schemas/VmAddUserDevice/**",
  ]),
  ...each(RESOURCE, [
    "schemas/DeviceNode/properties/resources/items/is",
    "schemas/DeviceNode/properties/resources/items/type",
    "schemas/Resource/**",
    "schemas/PioAddressRangeResource/**",
    "schemas/PioAddressRange/**",
    "schemas/MmioAddressRangeResource/**",
    "schemas/MmioAddressRange/**",
    "schemas/PciBarResource/**",
    "schemas/PciBar/**",
    "schemas/PciBarType/**",
    "schemas/LegacyIrqResource/**",
    "schemas/MsiIrqResource/**",
    "schemas/MsiIrq/**",
    "schemas/MacAddressResource/**",
    "schemas/KvmMemSlotResource/**",
  ]),
  ...each("answered by both programs where there is a parent", ["schemas/DeviceNode/properties/parent/type"]),
];

/**
 * The API's D-Bus methods: name, argument, result, operation.
 *
 * L6, pure. Names and signatures as the original's introspection shows them, plus the two it lacks.
 */
import type { OperationName } from "../command.ts";

/** Interface of the API. */
export const API_INTERFACE = "org.cloudhypervisor.DBusApi1";

/** One method. */
export interface BusMethod {
  readonly name: string;
  readonly operation: OperationName;
  /** Name of its string argument, JSON text of the operation's body; undefined: it takes none. */
  readonly argument?: string;
  /** Whether it gives a string: JSON text, or empty where there is nothing to say. */
  readonly returns: boolean;
}

const METHODS: readonly [
  name: string,
  operation: OperationName,
  argument: string | undefined,
  returns: boolean,
][] = [
  ["VmmPing", "vmm.ping", undefined, true],
  ["VmmShutdown", "vmm.shutdown", undefined, false],
  ["VmAddDevice", "vm.add-device", "device_config", true],
  ["VmAddDisk", "vm.add-disk", "disk_config", true],
  ["VmAddFs", "vm.add-fs", "fs_config", true],
  ["VmAddGenericVhostUser", "vm.add-generic-vhost-user", "generic_vhost_user_config", true],
  ["VmAddNet", "vm.add-net", "net_config", true],
  ["VmAddPmem", "vm.add-pmem", "pmem_config", true],
  ["VmAddUserDevice", "vm.add-user-device", "vm_add_user_device", true],
  ["VmAddVdpa", "vm.add-vdpa", "vdpa_config", true],
  ["VmAddVsock", "vm.add-vsock", "vsock_config", true],
  ["VmBoot", "vm.boot", undefined, false],
  ["VmCoredump", "vm.coredump", "vm_coredump_data", false],
  ["VmCounters", "vm.counters", undefined, true],
  ["VmCreate", "vm.create", "vm_config", false],
  ["VmDelete", "vm.delete", undefined, false],
  ["VmInfo", "vm.info", undefined, true],
  ["VmNmi", "vm.nmi", undefined, false],
  ["VmPause", "vm.pause", undefined, false],
  ["VmPowerButton", "vm.power-button", undefined, false],
  ["VmReboot", "vm.reboot", undefined, false],
  ["VmRemoveDevice", "vm.remove-device", "vm_remove_device", false],
  ["VmResize", "vm.resize", "vm_resize", false],
  ["VmResizeDisk", "vm.resize-disk", "vm_resize_disk", false],
  ["VmResizeZone", "vm.resize-zone", "vm_resize_zone", false],
  ["VmRestore", "vm.restore", "restore_config", false],
  ["VmReceiveMigration", "vm.receive-migration", "receive_migration_data", false],
  ["VmSendMigration", "vm.send-migration", "send_migration_data", false],
  ["VmResume", "vm.resume", undefined, false],
  ["VmShutdown", "vm.shutdown", undefined, false],
  ["VmSnapshot", "vm.snapshot", "vm_snapshot_config", false],
];

/** Every method by name. */
export const METHOD_OF_NAME: ReadonlyMap<string, BusMethod> = new Map(
  METHODS.map(([name, operation, argument, returns]) => [name, { name, operation, argument, returns }]),
);

const argumentXml = (name: string | undefined, direction: "in" | "out") =>
  `      <arg${name === undefined ? "" : ` name="${name}"`} type="s" direction="${direction}"/>\n`;

function methodXml({ name, argument, returns }: BusMethod): string {
  const inner = (argument === undefined ? "" : argumentXml(argument, "in")) +
    (returns ? argumentXml(undefined, "out") : "");
  return `    <method name="${name}">\n${inner}    </method>\n`;
}

/** The API's interface in the object's introspection document. */
export function apiXml(): string {
  return `  <interface name="${API_INTERFACE}">
${Array.from(METHOD_OF_NAME.values(), methodXml).join("")}    <signal name="Event">
      <arg name="event" type="s"/>
    </signal>
  </interface>
`;
}

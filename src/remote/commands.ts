/**
 * The sub-commands of the remote client: names, arguments, endpoints.
 *
 * L6, main isolate; no tables, no zod. Bodies are made in `bodies.ts`. Source: spec/cli.md §7.
 */
import type { OptionSpec } from "@vmm/cli/arguments.ts";

/** The word after the command's name. */
export interface RemoteArgument {
  readonly name: string;
  /** Value when absent; without one the argument is required. */
  readonly default?: string;
}

/** One sub-command. */
export interface RemoteCommand {
  readonly name: string;
  readonly summary: string;
  readonly method: "GET" | "PUT";
  /** Endpoint below `/api/v1/`. */
  readonly endpoint: string;
  readonly argument?: RemoteArgument;
  /** Options of the command; `required` names those that must be given. */
  readonly options?: readonly OptionSpec[];
  readonly required?: readonly string[];
}

const command = (name: string, summary: string, rest: Partial<RemoteCommand> = {}): RemoteCommand => ({
  name,
  summary,
  method: "PUT",
  endpoint: `vm.${name}`,
  ...rest,
});

const device = (kind: string, what: string): RemoteCommand =>
  command(`add-${kind}`, `Add ${what}`, { argument: { name: `${kind.replaceAll("-", "_")}_config` } });

const option = (name: string): OptionSpec => ({ name, arity: "one" });

/** All sub-commands in alphabetical order, as help and completion list them. */
export const REMOTE_COMMANDS: readonly RemoteCommand[] = [
  device("device", "a VFIO device"),
  device("disk", "a block device"),
  device("fs", "a virtio-fs device"),
  device("generic-vhost-user", "a generic vhost-user device"),
  device("net", "a network device"),
  device("pmem", "a persistent memory device"),
  device("user-device", "a vfio-user device"),
  device("vdpa", "a vDPA device"),
  device("vsock", "a vsock device"),
  command("boot", "Boot the created VM"),
  command("coredump", "Write a core dump of the VM", { argument: { name: "coredump_config" } }),
  command("counters", "Print the counters of the VM", { method: "GET" }),
  command("create", "Create a VM from JSON; `-` is standard input", {
    argument: { name: "path", default: "-" },
  }),
  command("delete", "Delete the VM"),
  command("info", "Print the state and configuration of the VM", { method: "GET" }),
  command("nmi", "Inject a non-maskable interrupt"),
  command("pause", "Pause the VM"),
  command("ping", "Ask whether the VMM answers", { method: "GET", endpoint: "vmm.ping" }),
  command("power-button", "Press the power button"),
  command("reboot", "Reboot the VM"),
  command("receive-migration", "Receive a VM", {
    argument: { name: "receive_migration_config" },
  }),
  command("remove-device", "Remove a device", { argument: { name: "id" } }),
  command("resize", "Change vCPUs, memory, balloon", {
    options: [option("balloon"), option("cpus"), option("memory")],
  }),
  command("resize-disk", "Change the size of a disk", {
    options: [option("disk"), option("size")],
    required: ["disk", "size"],
  }),
  command("resize-zone", "Change the size of a memory zone", {
    options: [option("id"), option("size")],
    required: ["id", "size"],
  }),
  command("restore", "Restore a VM from a snapshot", { argument: { name: "restore_config" } }),
  command("resume", "Resume the VM"),
  command("send-migration", "Send the VM to another VMM", {
    argument: { name: "send_migration_config" },
    // The older form of the command: `send-migration [--local] <url>`.
    options: [{ name: "local", arity: "flag" }],
  }),
  command("shutdown", "Shut the VM down"),
  command("shutdown-vmm", "End the VMM", { endpoint: "vmm.shutdown" }),
  command("snapshot", "Write a snapshot of the VM", { argument: { name: "snapshot_config" } }),
];

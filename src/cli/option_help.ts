/**
 * What each option is for, and the table of its parameters: source of help, completion and documentation.
 *
 * L6, main isolate; loaded only for these. Source: spec/cli.md §2.
 */
import {
  deviceParameters,
  ivshmemParameters,
  tpmParameters,
  userDeviceParameters,
} from "@schemas/cli/assigned_device.ts";
import { consoleParameters, debugConsoleParameters, serialParameters } from "@schemas/cli/console.ts";
import { cpusParameters } from "@schemas/cli/cpus.ts";
import { diskParameters } from "@schemas/cli/disk.ts";
import { memoryParameters, memoryZoneParameters } from "@schemas/cli/memory.ts";
import { restoreParameters } from "@schemas/cli/migration.ts";
import { netParameters } from "@schemas/cli/net.ts";
import type { ParameterTable } from "@schemas/cli/parameter.ts";
import { fwCfgParameters } from "@schemas/cli/payload.ts";
import {
  landlockRulesParameters,
  numaParameters,
  pciSegmentParameters,
  platformParameters,
} from "@schemas/cli/platform.ts";
import { rateLimitGroupParameters } from "@schemas/cli/rate_limiter.ts";
import {
  balloonParameters,
  fsParameters,
  genericVhostUserParameters,
  pmemParameters,
  rngParameters,
  rtcParameters,
  vdpaParameters,
  vsockParameters,
} from "@schemas/cli/virtio_devices.ts";
import { apiSocketParameters, eventMonitorParameters, gdbParameters } from "@schemas/cli/vmm.ts";
import type { OptionGroup, OptionName } from "./options.ts";

/** Text and parameters of one option. */
export interface OptionHelp {
  /** One or two sentences, without the value's syntax. */
  readonly summary: string;
  /** The value's parameters, when it is a list of them. */
  readonly parameters?: ParameterTable;
  /** The value is a file or directory. */
  readonly isPath?: true;
}

/** Headings of the groups, in the order of the help text. */
export const GROUP_TITLES: readonly (readonly [groups: readonly OptionGroup[], title: string])[] = [
  [["payload", "payload-part"], "What to boot"],
  [["vm"], "The machine (with something to boot)"],
  [["process"], "The process"],
  [["log"], "Logging"],
  [["info"], "Information"],
];

/** Help by option. */
export const OPTION_HELP: Readonly<Record<OptionName, OptionHelp>> = {
  kernel: {
    summary: "Kernel: an ELF file with a PVH entry point (vmlinux), or a bzImage.",
    isPath: true,
  },
  firmware: { summary: "Firmware to start instead of a kernel.", isPath: true },
  "fw-cfg-config": { summary: "What the guest finds in a fw_cfg device.", parameters: fwCfgParameters },
  config: {
    summary: "The whole VM as a JSON file, in the form of `vm.create`; instead of the options below.",
    isPath: true,
  },
  cmdline: { summary: "Kernel command line." },
  initramfs: { summary: "Initial file system of the kernel.", isPath: true },
  cpus: { summary: "Virtual CPUs.", parameters: cpusParameters },
  memory: { summary: "Guest memory.", parameters: memoryParameters },
  "memory-zone": {
    summary: "Guest memory in zones with properties of their own. Needs `--memory size=0`.",
    parameters: memoryZoneParameters,
  },
  numa: { summary: "NUMA nodes of the guest.", parameters: numaParameters },
  disk: { summary: "Block devices.", parameters: diskParameters },
  "rate-limit-group": {
    summary: "Rate limits shared by several disks. A limit needs size and refill time.",
    parameters: rateLimitGroupParameters,
  },
  net: { summary: "Network devices.", parameters: netParameters },
  console: { summary: "The virtio console (hvc0).", parameters: consoleParameters },
  serial: { summary: "The serial port (ttyS0).", parameters: serialParameters },
  "debug-console": {
    summary: "The debug console: one port for output of firmware and early kernels.",
    parameters: debugConsoleParameters,
  },
  rng: { summary: "Entropy device.", parameters: rngParameters },
  rtc: { summary: "virtio clock; without a value with default settings.", parameters: rtcParameters },
  balloon: { summary: "Memory balloon.", parameters: balloonParameters },
  fs: { summary: "Shared directories served by virtiofsd. Needs shared memory.", parameters: fsParameters },
  pmem: { summary: "Persistent memory devices.", parameters: pmemParameters },
  vsock: { summary: "Sockets between guest and host.", parameters: vsockParameters },
  "generic-vhost-user": {
    summary: "Devices of any type, served by a vhost-user back-end. Needs shared memory.",
    parameters: genericVhostUserParameters,
  },
  vdpa: { summary: "vDPA devices.", parameters: vdpaParameters },
  device: { summary: "Host PCI devices handed to the guest (VFIO).", parameters: deviceParameters },
  "user-device": { summary: "PCI devices served by another process.", parameters: userDeviceParameters },
  ivshmem: { summary: "Memory shared with other VMs.", parameters: ivshmemParameters },
  tpm: { summary: "TPM, emulated by a swtpm.", parameters: tpmParameters },
  pvpanic: { summary: "Device by which the guest reports a panic." },
  watchdog: { summary: "Watchdog that resets a hung guest." },
  platform: { summary: "PCI segments, SMBIOS strings, IOMMU.", parameters: platformParameters },
  "pci-segment": { summary: "Shares of address space of PCI segments.", parameters: pciSegmentParameters },
  landlock: { summary: "Confine the process to the files of its configuration." },
  "landlock-rules": {
    summary: "Further files and directories it may use.",
    parameters: landlockRulesParameters,
  },
  "api-socket": { summary: "Where to serve the REST API.", parameters: apiSocketParameters, isPath: true },
  "event-monitor": { summary: "Where to write events, as JSON.", parameters: eventMonitorParameters },
  restore: { summary: "Restore a VM from a snapshot.", parameters: restoreParameters },
  "no-shutdown": { summary: "Keep the process when the guest shuts down." },
  seccomp: {
    summary: "System calls outside the filter: kill (true), allow (false), log, or fail (errno).",
  },
  gdb: { summary: "Wait for a debugger before the first instruction.", parameters: gdbParameters },
  "dbus-service-name": { summary: "Well-known name of the D-Bus service." },
  "dbus-object-path": { summary: "Path of its object." },
  "dbus-system-bus": { summary: "Use the system bus, not the session bus." },
  verbose: { summary: "Log more: once information, twice debugging, three times everything." },
  "log-file": {
    summary:
      "File for the log, created or truncated; standard error otherwise. To rotate it, copy and truncate it.",
    isPath: true,
  },
  "log-format": {
    summary: "Form of a line. Tokens: {boottime} {wallclock} {glog} {localglog} {pid} {tid} {thread} " +
      "{level} {levelchar} {location} {msg}; {year} {month} {day} {hour} {minute} {second} {micros} " +
      "{offset}, each also as {localyear} and so on.",
  },
  version: { summary: "Print the version." },
};

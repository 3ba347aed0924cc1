/**
 * What Linux says about the machine it runs on: the script that collects it, and its result as comparable texts.
 *
 * Tests only.
 *
 * @module
 */

/** What Linux found, by section. */
export type LinuxView = Map<string, string>;

const SECTION = "=== ";
const END = "end of the view";

/**
 * Writes the sections to the disk `vda`. Each program started costs a tenth of a second and more where ring 0 is
 * emulated: one `grep` prints many files, with their names. What AML computes at each reading is left out.
 */
export const LINUX_VIEW_SCRIPT = `
exec 3>&1 >/tmp/view 2>/dev/null
section() { echo "${SECTION}$1"; }
for name in cpuinfo iomem ioports interrupts mtrr cmdline; do section $name; cat /proc/$name; done
section input; cat /proc/bus/input/devices
section memory; grep -E '^(MemTotal|DirectMap)' /proc/meminfo; ls -1 /sys/devices/system/memory
section cpus; grep -r . /sys/devices/system/cpu
section clocks; cat /sys/devices/system/clocksource/clocksource0/*_clocksource
section "acpi devices"; cd /sys/bus/acpi/devices; grep . */path */hid */adr
section "acpi tables"; cd /sys/firmware/acpi/tables; for table in [A-Z]*; do echo $table; base64 $table; done
section "platform devices"; ls -1 /sys/bus/platform/devices /sys/bus/pnp/devices
section pci; cd /sys/bus/pci/devices
grep . */vendor */device */subsystem_vendor */subsystem_device */class */revision */resource */irq */msi_irqs/* */modalias */enable
section "pci config"; hexdump -C */config
section slots; grep . /sys/bus/pci/slots/*/address
section virtio; cd /sys/bus/virtio/devices; grep . */device */vendor */status */features
section block; grep -r . /sys/block/*/
section serials; for name in vda vdb; do cat /sys/block/$name/serial; echo; done
section net; cd /sys/class/net; grep -r . eth0/ eth1/
section entropy; grep . /sys/class/misc/hw_random/rng_*
section log; dmesg
section "${END}"
exec 1>&3
dd if=/tmp/view of=/dev/vda bs=64k conv=fsync 2>/dev/null
`;

/** Files of sysfs that show the moment rather than the machine. */
const MOMENTARY =
  /(^|\/)(stat|inflight|statistics|power|uevent|diskseq|microcode|crash_notes|hotplug\/target)(\/|$|:)/;

/** Lines of the kernel's log that say what it found, without those that tell of time. */
const ABOUT_THE_MACHINE = new RegExp(
  "^(BIOS-e820|e820|RAMDISK|NX |x86/PAT|Hypervisor|kvm-guest|ACPI|acpi|IOAPIC|TSC deadline|x2apic|Switched APIC|" +
    "smpboot: (Allowing|CPU|Max)|smp: Brought|\\[mem |PCI|pci|pnp|system |platform|input|virtio|Free page|nd_pmem)",
);

/** What varies from boot to boot, by section. */
const LEVELLED: Record<string, (line: string) => string | undefined> = {
  cpuinfo: (line) => line.replace(/^(cpu MHz|bogomips)\s*:.*/, "$1"),
  // Counts differ; what remains is the number, the controller and the name.
  interrupts: (line) => {
    const match = /^\s*(\S+):((?:\s+\d+)*)(.*)$/.exec(line);
    return match ? `${match[1]}: ${match[3].trim().replace(/\s+/g, " ")}` : line;
  },
  log: (line) => {
    const text = line.replace(/^\[[^\]]*\] /, "");
    return ABOUT_THE_MACHINE.test(text) ? text : undefined;
  },
};

/** Splits and levels what the script wrote. @throws Error if the script did not get to its end */
export function parseLinuxView(text: string): LinuxView {
  const view: LinuxView = new Map();
  for (const part of text.split(SECTION).slice(1)) {
    const at = part.indexOf("\n");
    const name = part.slice(0, at);
    if (name === END) return view;
    const level = LEVELLED[name] ?? ((line) => MOMENTARY.test(line.split(":")[0]) ? undefined : line);
    const lines = part.slice(at + 1).split("\n").map(level).filter((line) => line !== undefined);
    view.set(name, lines.join("\n"));
  }
  throw new Error(`The guest's view is not whole: ${text.slice(0, 2000)}`);
}

/**
 * What is valid in a configuration and will hardly do what was meant.
 *
 * L0, pure. Source: spec/schemas.md "Validation rules" 1 and 2, texts observed on the original.
 */
import type { VmConfig } from "./api/vm_config.ts";

/** Distance of a NUMA node to itself, by definition (ACPI, SLIT). */
const SELF_DISTANCE = 10;

/** Warnings for the log, in no particular order; empty for most configurations. */
export function configWarnings(config: VmConfig): string[] {
  return [...ignoredPayload(config), ...sharedTerminal(config), ...selfDistances(config)];
}

function ignoredPayload({ payload }: VmConfig): string[] {
  const ignored = payload?.firmware !== undefined &&
    (payload.cmdline !== undefined || payload.initramfs !== undefined);
  return ignored ? ["Command line and initramfs are ignored beside firmware"] : [];
}

function sharedTerminal({ console, serial, debug_console }: VmConfig): string[] {
  const users = [
    ...console.mode === "Tty" ? ["virtio-console"] : [],
    ...serial.mode === "Tty" ? ["serial-console"] : [],
    ...debug_console.mode === "Tty" ? ["debug-console"] : [],
  ];
  if (users.length < 2) return [];
  return [`Using TTY output for multiple consoles: [${users.map((name) => `"${name}"`).join(", ")}]`];
}

function selfDistances({ numa = [] }: VmConfig): string[] {
  return numa.flatMap(({ guest_numa_id: id, distances = [] }) =>
    distances.filter(({ destination, distance }) => destination === id && distance !== SELF_DISTANCE)
      .map(({ distance }) =>
        `Ignoring distance ${distance} of NUMA node ${id} to itself: it is ${SELF_DISTANCE}`
      )
  );
}

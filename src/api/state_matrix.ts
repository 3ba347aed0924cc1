/**
 * State × operation: the one table of what is allowed when, and what a refusal says.
 *
 * L6, main isolate, pure. Source: spec/rest-api.md §3, §4, spec/observed.md "Order and status"; every cell checked on the
 * original.
 */
import { StateError } from "@vmm/errors/state_error.ts";
import type { OperationName } from "./command.ts";

/**
 * Situations the VMM can be in: no configuration; a configuration without instance; an instance that is not started (its
 * boot failed); and the states of a started instance.
 */
export const SITUATIONS = ["absent", "cold", "created", "running", "paused", "breakpoint"] as const;
/** One of them. */
export type Situation = typeof SITUATIONS[number];

/** State names as error texts spell them. */
const STATE_NAMES: Record<Situation, string> = {
  absent: "Shutdown",
  cold: "Created",
  created: "Created",
  running: "Running",
  paused: "Paused",
  breakpoint: "BreakPoint",
};

const PAUSE_CONTEXT = ["Cannot pause VM", "Failed to pause migratable component"];
const RESUME_CONTEXT = ["Cannot resume VM", "Failed to resume migratable component"];
const SEND_CONTEXT = "Failed to send migratable component snapshot";
const RECEIVE_CONTEXT = "Failed to receive migratable component snapshot";

/** Reasons to refuse, by the name the table uses. */
const REFUSALS = {
  notCreated: () => StateError.notCreated(),
  configMissing: () => StateError.configMissing(),
  alreadyCreated: () => StateError.alreadyCreated(),
  notRunning: () => StateError.notRunning(),
  noPause: (from: Situation) => StateError.invalidTransition(PAUSE_CONTEXT, STATE_NAMES[from], "Paused"),
  noResume: (from: Situation) => StateError.invalidTransition(RESUME_CONTEXT, STATE_NAMES[from], "Running"),
  notPaused: () =>
    StateError.refused(
      "Cannot snapshot VM",
      "Failed to snapshot migratable component",
      "Trying to snapshot while VM is running",
    ),
  notStarted: () =>
    StateError.refused(
      "Error coredumping VM",
      "coredump",
      "Trying to coredump while VM is not running or paused",
    ),
  noDisk: () => StateError.refused("Failed resizing a disk image"),
  nothingToSend: () => StateError.refused(SEND_CONTEXT, "VM is not running"),
  noSend: (from: Situation) =>
    StateError.refused(SEND_CONTEXT, `VM is not running or paused: ${STATE_NAMES[from]}`),
  noReceive: () =>
    StateError.refused(RECEIVE_CONTEXT, "Can't receive a migration when a VM is already created"),
} satisfies Record<string, (from: Situation) => StateError>;

/** `ok`: the operation runs; else why not. */
export type Verdict = "ok" | keyof typeof REFUSALS;

type Row = readonly [
  absent: Verdict,
  cold: Verdict,
  created: Verdict,
  running: Verdict,
  paused: Verdict,
  breakpoint: Verdict,
];

const ANY: Row = ["ok", "ok", "ok", "ok", "ok", "ok"];
const WITH_CONFIG: Row = ["notCreated", "ok", "ok", "ok", "ok", "ok"];
const WITH_INSTANCE: Row = ["notRunning", "notRunning", "ok", "ok", "ok", "ok"];

/** The table: one row per operation, one column per situation. */
export const STATE_MATRIX: Record<OperationName, Row> = {
  "vmm.ping": ANY,
  "vmm.shutdown": ANY,
  "vm.create": [
    "ok",
    "alreadyCreated",
    "alreadyCreated",
    "alreadyCreated",
    "alreadyCreated",
    "alreadyCreated",
  ],
  "vm.delete": ANY,
  "vm.boot": ["configMissing", "ok", "alreadyCreated", "alreadyCreated", "alreadyCreated", "alreadyCreated"],
  "vm.shutdown": WITH_INSTANCE,
  "vm.reboot": ["notCreated", "notCreated", "ok", "ok", "ok", "ok"],
  "vm.power-button": WITH_INSTANCE,
  "vm.pause": ["notRunning", "notRunning", "ok", "ok", "noPause", "noPause"],
  "vm.resume": ["notRunning", "notRunning", "ok", "noResume", "ok", "ok"],
  "vm.nmi": WITH_INSTANCE,
  "vm.info": WITH_CONFIG,
  "vm.counters": WITH_INSTANCE,
  "vm.snapshot": ["notRunning", "notRunning", "notPaused", "notPaused", "ok", "notPaused"],
  "vm.restore": [
    "ok",
    "alreadyCreated",
    "alreadyCreated",
    "alreadyCreated",
    "alreadyCreated",
    "alreadyCreated",
  ],
  "vm.coredump": ["notRunning", "notRunning", "notStarted", "ok", "ok", "notStarted"],
  "vm.resize": WITH_CONFIG,
  "vm.resize-zone": WITH_CONFIG,
  "vm.resize-disk": ["notCreated", "noDisk", "ok", "ok", "ok", "ok"],
  "vm.add-device": WITH_CONFIG,
  "vm.add-user-device": WITH_CONFIG,
  "vm.add-disk": WITH_CONFIG,
  "vm.add-fs": WITH_CONFIG,
  "vm.add-pmem": WITH_CONFIG,
  "vm.add-net": WITH_CONFIG,
  "vm.add-vdpa": WITH_CONFIG,
  "vm.add-vsock": WITH_CONFIG,
  "vm.add-generic-vhost-user": WITH_CONFIG,
  "vm.remove-device": WITH_CONFIG,
  "vm.receive-migration": ["ok", "ok", "noReceive", "noReceive", "noReceive", "noReceive"],
  "vm.send-migration": ["nothingToSend", "nothingToSend", "noSend", "ok", "ok", "noSend"],
};

/** Refusals that come after the request's own parameters were found good; the operation asks for them. */
const LATE: ReadonlySet<Verdict> = new Set(["noSend"]);

/** What the table says. */
export function verdictOf(operation: OperationName, situation: Situation): Verdict {
  return STATE_MATRIX[operation][SITUATIONS.indexOf(situation)];
}

/** Why `operation` is refused in `situation`, whatever its body; undefined if it may run. Never throws. */
export function refusalOf(operation: OperationName, situation: Situation): StateError | undefined {
  const verdict = verdictOf(operation, situation);
  return verdict === "ok" || LATE.has(verdict) ? undefined : REFUSALS[verdict](situation);
}

/** As `refusalOf`, also for what is refused only after the parameters were checked. */
export function lateRefusalOf(operation: OperationName, situation: Situation): StateError | undefined {
  const verdict = verdictOf(operation, situation);
  return verdict === "ok" ? undefined : REFUSALS[verdict](situation);
}

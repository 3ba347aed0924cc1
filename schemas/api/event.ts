/**
 * The events of the event stream: one table of source, name and properties.
 *
 * L0, no zod: the event monitor of any isolate may import it.
 * Source: spec/cli.md §5.
 */

/** Event names by source, each with the property names it carries (none: `properties` is null). */
export const EVENTS = {
  vmm: {
    starting: [],
    shutdown: [],
  },
  vm: {
    booting: [],
    booted: [],
    shutdown: [],
    rebooting: [],
    rebooted: [],
    deleted: [],
    resizing: [],
    resized: [],
    pausing: [],
    paused: [],
    resuming: [],
    resumed: [],
    snapshotting: [],
    snapshotted: [],
    restoring: [],
    restored: [],
    coredumping: [],
    "device-removed": ["id", "bdf"],
    "migration-started": [],
    "migration-memory-iteration": ["id"],
    "migration-finished": [],
    "migration-failed": [],
    "postcopy-migration-completed": [],
    "migration-receive-ready": [],
    "migration-receive-started": [],
    "migration-receive-finished": [],
    "migration-receive-failed": [],
  },
  "virtio-device": {
    activated: ["id"],
    reset: ["id"],
  },
  vdpa: {
    activated: ["id"],
    reset: ["id"],
  },
  guest: {
    panic: ["event"],
  },
} as const;

/** Who reports. */
export type EventSource = keyof typeof EVENTS;

/** What can be reported by `S`. */
export type EventName<S extends EventSource> = keyof (typeof EVENTS)[S] & string;

/** One event as it appears in the stream. */
export interface VmmEvent {
  /** Since the start of the monitor. */
  readonly timestamp: { readonly secs: number; readonly nanos: number };
  /** Who reports. */
  readonly source: EventSource;
  /** What happened, as `booted`. */
  readonly event: string;
  /** Details; null for events that have none. */
  readonly properties: Readonly<Record<string, string>> | null;
}

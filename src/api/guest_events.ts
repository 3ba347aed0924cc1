/**
 * What the guest makes happen: told as events, logged, or turned into a wish the control loop carries out.
 *
 * L6, main isolate. A guest may do any of it any number of times: wishes are held once each, the rest is rate-limited.
 * Source: spec/rest-api.md §5, spec/cli.md §5, spec/observed.md "Events".
 */
import type { GuestEvent } from "@vmm/bus/ports.ts";
import { debugPortRange } from "@vmm/devices/legacy/debug_port.ts";
import type { EventStream } from "@vmm/log/events.ts";
import type { Level } from "@vmm/log/format.ts";
import { log } from "@vmm/log/logger.ts";
import { RateLimit } from "@vmm/log/rate_limit.ts";

/** Things to be carried out in turn with the operations. */
export type GuestWish = Extract<GuestEvent, { kind: "shutdown" | "reset" | "fatal" }>;

/** Events of one kind a guest may cause at once, and the pause until it may cause one more, in milliseconds. */
const EVENT_BURST = 256;
const EVENT_REFILL_MS = 10;

/** Text of a value written to the pvpanic port (qemu docs/specs/pvpanic: bit 0 panicked, bit 1 crash loaded). */
const PANIC_TEXTS: Readonly<Record<number, string>> = { 1: "panic", 2: "crash_loaded" };

const hex = (value: number): string => `0x${value.toString(16)}`;

/** The original's words for a code written to port 0x80. */
function debugPortText(code: number, elapsedUs: number): string {
  return `[Debug I/O port: ${debugPortRange(code)} code ${hex(code)}] ${
    (elapsedUs / 1e6).toFixed(6)
  } seconds`;
}

/** Sorts guest events. */
export class GuestEvents {
  readonly #pending = new Set<GuestWish["kind"]>();
  readonly #limit: RateLimit;

  constructor(private readonly events: EventStream, nowMs: () => number = () => performance.now()) {
    this.#limit = new RateLimit(nowMs, EVENT_BURST, EVENT_REFILL_MS);
  }

  /** Handles `event`, or returns it to be carried out. A wish like one that is still held is swallowed. Never throws. */
  accept(event: GuestEvent): GuestWish | undefined {
    switch (event.kind) {
      case "shutdown":
      case "reset":
      case "fatal":
        if (this.#pending.has(event.kind)) return undefined;
        this.#pending.add(event.kind);
        if (event.kind === "fatal") log.error(event.text);
        else log.info(event.kind === "reset" ? "VM reset event" : "VM exit event");
        return event;
      case "panic":
        if (this.#limit.take("panic") !== undefined) {
          this.events.emit("guest", "panic", { event: PANIC_TEXTS[event.value] ?? "unknown_event" });
        }
        return undefined;
      case "virtio":
        if (this.#limit.take(`virtio ${event.id}`) !== undefined) {
          this.events.emit("virtio-device", event.event, { id: event.id });
        }
        return undefined;
      case "debug-port":
        log.limited("WARN", "debug-port", debugPortText(event.code, event.elapsedUs), event.leftOut);
        return undefined;
      case "log":
        log.limited(event.level.toUpperCase() as Level, event.key, event.text, event.leftOut);
        return undefined;
      case "pci-eject":
        log.limited(
          "INFO",
          "pci-eject",
          `Guest released slots ${hex(event.slots)} of segment ${event.segment}`,
        );
        return undefined;
      case "device-removed":
        this.events.emit("vm", "device-removed", { id: event.id, bdf: event.bdf });
        return undefined;
      case "cpu-eject":
        log.limited("INFO", "cpu-eject", `Guest released vCPU ${event.cpu}`);
        return undefined;
      case "iommu-fault": // a matter between the VM and its guest
        return undefined;
      default:
        event satisfies never;
        return undefined;
    }
  }

  /** The wish is being carried out: the next one of its kind counts again. */
  settle(wish: GuestWish): void {
    this.#pending.delete(wish.kind);
  }
}

/**
 * What register code may ask of the machine around it.
 *
 * L3. The vCPU Worker gives real ports, unit tests give fakes; devices never see ioctls or descriptors.
 */

/** An interrupt line of the IOAPIC. */
export interface InterruptLines {
  /** Raises an edge on global system interrupt `gsi`. */
  pulse(gsi: number): void;
}

/** Sends a message-signalled interrupt to the guest's local APICs. */
export interface MessageInterrupts {
  /** Delivers one message; false if it could not be delivered now. */
  signal(addressLow: number, addressHigh: number, data: number): boolean;
}

/** Things the guest makes happen that the control loop has to know. Handled on the main isolate, in order. */
export type GuestEvent =
  | { kind: "shutdown" }
  | { kind: "reset" }
  | { kind: "panic"; value: number }
  | { kind: "pci-eject"; segment: number; slots: number }
  | { kind: "device-removed"; id: string; bdf: string }
  | { kind: "cpu-eject"; cpu: number }
  | { kind: "debug-port"; code: number; elapsedUs: number; leftOut: number }
  | { kind: "virtio"; id: string; event: "activated" | "reset" }
  | { kind: "iommu-fault"; endpoint: number; high: number; low: number; access: number }
  | { kind: "log"; level: "error" | "warn" | "info" | "debug"; key: string; text: string; leftOut?: number }
  | { kind: "fatal"; text: string };

/** Posts events to the main isolate. Rare events only: it allocates. */
export interface EventSink {
  post(event: GuestEvent): void;
}

/** Where bytes a guest prints go (serial, debug consoles, firmware debug). */
export interface ByteSink {
  /** Takes one byte; never blocks. */
  put(byte: number): void;
}

/** Wakes the I/O Worker so that it looks at its control words and blocks. */
export interface IoWake {
  wake(): void;
}

/**
 * A vhost-user back-end as main hands it to the I/O Worker.
 *
 * L4, any isolate; plain and cloneable.
 */
import type { Agreement, Wishes } from "./negotiation.ts";

/** Configuration bytes the front-end decides, whatever the back-end says. */
export interface ConfigOverride {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Everything the I/O Worker needs to talk to a back-end, and to find it again. */
export interface VhostUserDescription {
  readonly socket: string;
  /** Connected, and past negotiation. Main keeps it open until the device is released. */
  readonly fd: number;
  /** Where back-ends connect to us; −1 when we connect to them. */
  readonly listenFd: number;
  readonly wishes: Wishes;
  readonly agreement: Omit<Agreement, "config">;
  /** The device's configuration is the back-end's: its changes go to the guest, the driver's writes to the back-end. */
  readonly followsConfig: boolean;
  /** Laid over what the back-end says of the device's configuration. */
  readonly overrides: readonly ConfigOverride[];
}

/** Puts the front-end's bytes over the back-end's. */
export function override(config: Uint8Array, overrides: readonly ConfigOverride[]): void {
  for (const { offset, bytes } of overrides) {
    if (offset < config.byteLength) config.set(bytes.subarray(0, config.byteLength - offset), offset);
  }
}

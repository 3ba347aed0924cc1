/**
 * What a queue handler needs of somebody else who serves the device's rings: a process behind a vhost-user socket.
 *
 * L3, I/O Worker. Back-ends implement it, the vhost-user handler uses it, and neither imports the other.
 */

/** A ring to be served. Addresses are those of this process. */
export interface ServedRing {
  readonly index: number;
  readonly size: number;
  readonly descriptors: number;
  readonly driver: number;
  readonly device: number;
  /** The next available entry to take. `lost`: a back-end took some and died before it said which it finished. */
  position(lost: boolean): number;
}

/** What the device does while its rings are served. */
export interface ServedDevice {
  /** Features the driver accepted. */
  readonly features: bigint;
  readonly rings: readonly ServedRing[];
  /** The ring's interrupt is due. */
  interrupt(ring: number): void;
  /** The device's configuration bytes are others now. */
  configChanged(): void;
}

/** Somebody who serves rings. No method throws. */
export interface RingBackend {
  /** Serves the device from now on: at once, or when the back-end is there (again). */
  start(device: ServedDevice): void;
  /** Stops serving: afterwards nothing touches the rings. Returns by ring the next available entry; undefined where nobody knows. */
  stop(): readonly (number | undefined)[];
  /** The driver reset the device: nothing of what is under way is needed any more. After `stop`. */
  forget(): void;
  /** Tells the back-end to look at a ring although no notification came. */
  kick(ring: number): void;
  /** Serves only rings below `count`, until told otherwise. */
  limit(count: number): void;
  /** Descriptor that becomes readable when the driver notifies `queue`; for queues that are not served by the back-end. */
  kickFd(queue: number): number;
  /** Takes back a notification seen on `kickFd`. */
  clearKick(queue: number): void;
}

/**
 * Numbers of KVM's memory slots: guest RAM, hot-plugged memory and windows of devices share them.
 *
 * L5, main isolate. Source: KVM api.rst §4.35.
 */

/** Gives out slot numbers, the lowest free one first. */
export class MemorySlots {
  readonly #free: number[] = [];

  /** @param next first number nobody has */
  constructor(private next = 0) {}

  /** A number nobody has. */
  take(): number {
    return this.#free.pop() ?? this.next++;
  }

  /** The slot was removed from the VM. */
  give(slot: number): void {
    this.#free.push(slot);
    this.#free.sort((a, b) => b - a);
  }
}

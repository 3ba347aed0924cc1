/**
 * Decides whether an I/O Worker looks for the next request for a while before it sleeps.
 *
 * L5, I/O Worker; pure. Sleeping and being woken costs tens of microseconds and an exit of the guest, looking costs a host
 * CPU. So looking has to earn its keep: it goes on while it finds something, stops when it does not, and is tried again
 * when sleeps turn out so short that it would have found something. Where others wait for a CPU it takes no longer than
 * what it may save: going to sleep and being woken.
 */

/** Longest time without anything found, microseconds. */
export const LOOK_US = 50;
/** The same where others wait for a CPU. */
export const BUSY_LOOK_US = 20;
/** A sleep this short, wake-up included, would have been better spent looking, microseconds. */
const SHORT_SLEEP_US = 100;
const MOST_CREDIT = 8;
/** Credit from which on looking is tried. */
const ENOUGH_CREDIT = 2;
const COST_OF_A_MISS = 2;
/** How long one answer about the host's load is good for, microseconds. */
const LOAD_VALID_US = 5_000;

/** See the module. Times are microseconds of any clock that never goes back. */
export class Patience {
  #credit = 0;
  #isFree = false;
  #askedUs = -Infinity;

  /**
   * @param hasFreeCpu true if this thread takes its CPU from nobody; asked rarely
   * @param busyLookUs 0 on a host with one CPU, where whoever looks keeps the guest from running
   */
  constructor(private readonly hasFreeCpu: () => boolean, private readonly busyLookUs = BUSY_LOOK_US) {}

  /** A queue has run empty: how long is looking worth it now, in microseconds? 0: not at all. */
  lookUs(nowUs: number): number {
    if (this.#credit < ENOUGH_CREDIT) return 0;
    if (nowUs - this.#askedUs >= LOAD_VALID_US) {
      this.#askedUs = nowUs;
      this.#isFree = this.hasFreeCpu();
    }
    return this.#isFree ? LOOK_US : this.busyLookUs;
  }

  /** Looking has found something. */
  found(): void {
    if (this.#credit < MOST_CREDIT) this.#credit++;
  }

  /** Looking has found nothing for as long as it was worth. */
  missed(): void {
    this.#credit = Math.max(0, this.#credit - COST_OF_A_MISS);
  }

  /** A queue had work after a sleep of `lengthUs`. */
  slept(lengthUs: number): void {
    if (lengthUs <= SHORT_SLEEP_US) this.found();
    else this.#credit = 0;
  }
}

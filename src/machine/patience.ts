/**
 * Decides whether an I/O Worker looks for the next request for a while before it sleeps.
 *
 * L5, I/O Worker; pure. Sleeping and being woken costs tens of microseconds and an exit of the guest, looking costs a host
 * CPU. So looking has to earn its keep: it goes on while it finds something, stops when it does not, and is tried again
 * when sleeps turn out so short that it would have found something. It never takes a CPU somebody else is waiting for.
 */

/** Longest time without anything found, microseconds. */
export const LOOK_US = 50;
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

  /** @param hasFreeCpu true if this thread takes its CPU from nobody; asked rarely */
  constructor(private readonly hasFreeCpu: () => boolean) {}

  /** A queue has run empty: is looking worth it now? */
  mayLook(nowUs: number): boolean {
    if (this.#credit < ENOUGH_CREDIT) return false;
    if (nowUs - this.#askedUs >= LOAD_VALID_US) {
      this.#askedUs = nowUs;
      this.#isFree = this.hasFreeCpu();
    }
    return this.#isFree;
  }

  /** Looking has found something. */
  found(): void {
    if (this.#credit < MOST_CREDIT) this.#credit++;
  }

  /** Looking has found nothing for `LOOK_US`. */
  missed(): void {
    this.#credit = Math.max(0, this.#credit - COST_OF_A_MISS);
  }

  /** A queue had work after a sleep of `lengthUs`. */
  slept(lengthUs: number): void {
    if (lengthUs <= SHORT_SLEEP_US) this.found();
    else this.#credit = 0;
  }
}

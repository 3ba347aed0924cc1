/**
 * Descriptors that arrived with a request: kept by the operation that uses them, closed otherwise.
 *
 * L6, main isolate, pure: closing is the front door's function. Source: spec/rest-api.md §1.3.
 */

/** The descriptors of one request, in order of arrival. */
export class PassedDescriptors {
  #open: readonly number[];

  /** @param close closes one descriptor */
  constructor(descriptors: readonly number[], private readonly close: (fd: number) => void) {
    this.#open = descriptors;
  }

  /** How many there are and nobody has kept yet. */
  get count(): number {
    return this.#open.length;
  }

  /** The descriptors, still to be closed by `release`: to be read while the operation runs. */
  peek(): readonly number[] {
    return this.#open;
  }

  /** Takes all of them over: from now on the caller closes them. */
  keep(): readonly number[] {
    const kept = this.#open;
    this.#open = [];
    return kept;
  }

  /** Closes what nobody kept. Called by the front door when the request is answered; may be called again. */
  release(): void {
    for (const fd of this.keep()) this.close(fd);
  }
}

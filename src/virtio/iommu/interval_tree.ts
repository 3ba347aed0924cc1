/**
 * Disjoint page ranges in shared memory: a treap over typed arrays, one root per owner, a fixed number of nodes for all.
 *
 * L3. One isolate changes it, any may look into it at the same time: a reader that meets a change in progress gets nonsense,
 * but always an answer, and finds out by the sequence word of whoever owns the tree. Nodes are numbered from 1; 0 is none.
 */

const STATE_WORDS = 2;
/** More steps than any sound tree of this size takes. */
const MAX_STEPS = 256;
const RANDOM_RANGE = 2 ** 32;

/** What a node says: pages `first` to `last` lie at `target` and following. */
export interface PageRange {
  first: number;
  last: number;
  target: number;
  flags: number;
}

/** See the module. */
export class IntervalTree {
  /** Words 0: first of the free trees; 1: nodes that were ever used. */
  readonly #state: Uint32Array;
  readonly #left: Uint32Array;
  readonly #right: Uint32Array;
  /** Heap order; in a free tree's root: the next free tree. */
  readonly #priority: Uint32Array;
  readonly #flags: Uint32Array;
  readonly #first: Float64Array;
  readonly #last: Float64Array;
  readonly #target: Float64Array;
  /** Results of `#split`. */
  #below = 0;
  #above = 0;

  /** Bytes that `capacity` nodes take. */
  static sizeBytes(capacity: number): number {
    return 4 * STATE_WORDS + (capacity + 1) * (4 * 4 + 3 * 8);
  }

  /** @param offset in `buffer`, a multiple of 8; all zero for an empty tree */
  constructor(buffer: SharedArrayBuffer, offset: number, readonly capacity: number) {
    const nodes = capacity + 1;
    let at = offset;
    const doubles = () => {
      const array = new Float64Array(buffer, at, nodes);
      at += array.byteLength;
      return array;
    };
    const words = (length = nodes) => {
      const array = new Uint32Array(buffer, at, length);
      at += array.byteLength;
      return array;
    };
    this.#state = words(STATE_WORDS);
    this.#first = doubles();
    this.#last = doubles();
    this.#target = doubles();
    this.#left = words();
    this.#right = words();
    this.#priority = words();
    this.#flags = words();
  }

  /** Adds a range that overlaps none; returns the new root, or −1 when all nodes are taken. */
  insert(root: number, range: Readonly<PageRange>): number {
    const node = this.#take();
    if (node === 0) return -1;
    this.#first[node] = range.first;
    this.#last[node] = range.last;
    this.#target[node] = range.target;
    this.#flags[node] = range.flags;
    this.#left[node] = this.#right[node] = 0;
    this.#priority[node] = Math.floor(Math.random() * RANDOM_RANGE);
    this.#split(root, range.first);
    const above = this.#above;
    return this.#merge(this.#merge(this.#below, node), above);
  }

  /** Removes all ranges that begin in `[first, last]`; returns the new root. */
  removeWithin(root: number, first: number, last: number): number {
    this.#split(root, first);
    const below = this.#below;
    this.#split(this.#above, last + 1);
    const above = this.#above;
    this.free(this.#below);
    return this.#merge(below, above);
  }

  /** Gives a whole tree back, whatever its size, in one step. */
  free(root: number): void {
    if (root === 0) return;
    this.#priority[root] = this.#state[0];
    this.#state[0] = root;
  }

  /** The node with the greatest first page at or before `page`; 0: none. */
  floor(root: number, page: number): number {
    let found = 0;
    for (let node = root, steps = 0; node !== 0 && node <= this.capacity && steps < MAX_STEPS; steps++) {
      if (this.#first[node] <= page) {
        found = node;
        node = this.#right[node];
      } else node = this.#left[node];
    }
    return found;
  }

  /** First and last page of a node, where they lie, and its flags. */
  first(node: number): number {
    return this.#first[node];
  }

  last(node: number): number {
    return this.#last[node];
  }

  target(node: number): number {
    return this.#target[node];
  }

  flags(node: number): number {
    return this.#flags[node];
  }

  /** A free node: the root of a free tree, whose halves become free trees. */
  #take(): number {
    const node = this.#state[0];
    if (node === 0) return this.#state[1] < this.capacity ? ++this.#state[1] : 0;
    this.#state[0] = this.#priority[node];
    this.free(this.#left[node]);
    this.free(this.#right[node]);
    return node;
  }

  /** Divides a tree into ranges that begin before `page` and the others. */
  #split(node: number, page: number): void {
    if (node === 0) {
      this.#below = this.#above = 0;
    } else if (this.#first[node] < page) {
      this.#split(this.#right[node], page);
      this.#right[node] = this.#below;
      this.#below = node;
    } else {
      this.#split(this.#left[node], page);
      this.#left[node] = this.#above;
      this.#above = node;
    }
  }

  /** Joins two trees; all of `below` lies before all of `above`. */
  #merge(below: number, above: number): number {
    if (below === 0) return above;
    if (above === 0) return below;
    if (this.#priority[below] >= this.#priority[above]) {
      this.#right[below] = this.#merge(this.#right[below], above);
      return below;
    }
    this.#left[above] = this.#merge(below, this.#left[above]);
    return above;
  }
}

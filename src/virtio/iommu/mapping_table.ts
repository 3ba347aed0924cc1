/**
 * Which device may reach which memory: endpoints, the domains they are attached to, the mappings of each domain.
 *
 * L3. One buffer for all isolates, of a size fixed when the VM is made: main lists the endpoints before the guest starts, the
 * I/O Worker that serves the IOMMU changes the rest, the Workers of the devices behind it look pages up at any time. A
 * sequence word, odd during a change, tells them that what they saw may be nonsense.
 * A domain exists as long as an endpoint is attached to it, so there are never more domains than endpoints.
 * Source: virtio 1.2 §5.13.6.
 */
import { IntervalTree, type PageRange } from "./interval_tree.ts";
import {
  LAST_PAGE,
  VIRTIO_IOMMU_MAP_F_READ,
  VIRTIO_IOMMU_MAP_F_WRITE,
  VIRTIO_IOMMU_S_INVAL,
  VIRTIO_IOMMU_S_NOENT,
  VIRTIO_IOMMU_S_NOMEM,
  VIRTIO_IOMMU_S_OK,
  VIRTIO_IOMMU_S_RANGE,
} from "./spec.ts";

/** Mappings of all domains together; pages of the buffer cost memory once they are used. */
export const MAX_MAPPINGS = 1 << 17;

const Header = { sequence: 0, bypass: 1, endpoints: 2, endpointCapacity: 3, mappingCapacity: 4 } as const;
const HEADER_WORDS = 8;
/** Words of an endpoint and of the domain with the same index: one needs the other. */
const EntryWord = { endpointId: 0, attached: 1, domainId: 2, members: 3, bypass: 4, root: 5 } as const;
const ENTRY_WORDS = 6;
const NOT_ATTACHED = 0;
/** Looks before a reader lets the writer run. */
const SPINS = 100;
const WAIT_MS = 1;
/** Waits before a reader gives up: the writer has died. */
const MAX_WAITS = 1000;

const EVERYTHING: PageRange = {
  first: 0,
  last: LAST_PAGE,
  target: 0,
  flags: VIRTIO_IOMMU_MAP_F_READ | VIRTIO_IOMMU_MAP_F_WRITE,
};

/** A view of the table. */
export class MappingTable {
  readonly #words: Int32Array;
  readonly #entries: Uint32Array;
  readonly #tree: IntervalTree;

  constructor(readonly buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer, 0, HEADER_WORDS);
    const capacity = this.#words[Header.endpointCapacity];
    this.#entries = new Uint32Array(buffer, 4 * HEADER_WORDS, ENTRY_WORDS * capacity);
    this.#tree = new IntervalTree(buffer, treeOffset(capacity), this.#words[Header.mappingCapacity]);
  }

  /** A table in which everything passes, as before a driver has said otherwise. */
  static create(endpointCapacity: number, mappingCapacity: number = MAX_MAPPINGS): MappingTable {
    const buffer = new SharedArrayBuffer(
      treeOffset(endpointCapacity) + IntervalTree.sizeBytes(mappingCapacity),
    );
    const words = new Int32Array(buffer);
    words[Header.endpointCapacity] = endpointCapacity;
    words[Header.mappingCapacity] = mappingCapacity;
    words[Header.bypass] = 1;
    return new MappingTable(buffer);
  }

  /** Lists an endpoint; returns its index. @throws RangeError when there are as many as the table was made for */
  addEndpoint(id: number): number {
    const index = this.#words[Header.endpoints];
    if (index >= this.#words[Header.endpointCapacity]) throw new RangeError("Too many IOMMU endpoints");
    this.#entries[index * ENTRY_WORDS + EntryWord.endpointId] = id;
    this.#words[Header.endpoints] = index + 1;
    return index;
  }

  /** The id of the endpoint with this index. */
  endpointId(index: number): number {
    return index < this.#words[Header.endpoints] ? this.#get(index, EntryWord.endpointId) : 0;
  }

  /** True for an endpoint that is in a domain. */
  isAttached(index: number): boolean {
    return index < this.#words[Header.endpoints] && this.#get(index, EntryWord.attached) !== NOT_ATTACHED;
  }

  /** Whether endpoints that are attached to no domain reach everything or nothing. */
  setBypass(on: boolean): void {
    this.#begin();
    this.#words[Header.bypass] = on ? 1 : 0;
    this.#end();
  }

  /** Attaches an endpoint to a domain, which is made if need be; it leaves the one it was in. Returns a status. */
  attach(domainId: number, endpointId: number, bypass: boolean): number {
    const endpoint = this.#endpoint(endpointId);
    if (endpoint < 0) return VIRTIO_IOMMU_S_NOENT;
    let domain = this.#domain(domainId);
    if (domain >= 0 && (this.#get(domain, EntryWord.bypass) !== 0) !== bypass) return VIRTIO_IOMMU_S_INVAL;
    if (domain >= 0 && this.#get(endpoint, EntryWord.attached) === domain + 1) return VIRTIO_IOMMU_S_OK;
    this.#begin();
    this.#leave(endpoint);
    if (domain < 0) {
      domain = this.#freeDomain();
      this.#set(domain, EntryWord.domainId, domainId);
      this.#set(domain, EntryWord.bypass, bypass ? 1 : 0);
      this.#set(domain, EntryWord.root, 0);
    }
    this.#set(domain, EntryWord.members, this.#get(domain, EntryWord.members) + 1);
    this.#set(endpoint, EntryWord.attached, domain + 1);
    this.#end();
    return VIRTIO_IOMMU_S_OK;
  }

  /** Detaches an endpoint if it is attached to that domain. With its last endpoint a domain loses its mappings. */
  detach(domainId: number, endpointId: number): void {
    const endpoint = this.#endpoint(endpointId);
    const domain = this.#domain(domainId);
    if (endpoint < 0 || domain < 0 || this.#get(endpoint, EntryWord.attached) !== domain + 1) return;
    this.#begin();
    this.#leave(endpoint);
    this.#end();
  }

  /** Whether a domain is there to map into: a status. */
  checkMappable(domainId: number): number {
    const domain = this.#domain(domainId);
    if (domain < 0) return VIRTIO_IOMMU_S_NOENT;
    return this.#get(domain, EntryWord.bypass) === 0 ? VIRTIO_IOMMU_S_OK : VIRTIO_IOMMU_S_INVAL;
  }

  /** Maps pages of a domain that `checkMappable` found good. Returns a status. */
  map(domainId: number, range: Readonly<PageRange>): number {
    const domain = this.#domain(domainId);
    if (domain < 0) return VIRTIO_IOMMU_S_NOENT;
    const root = this.#get(domain, EntryWord.root);
    const before = this.#tree.floor(root, range.last);
    if (before !== 0 && this.#tree.last(before) >= range.first) return VIRTIO_IOMMU_S_INVAL;
    this.#begin();
    const grown = this.#tree.insert(root, range);
    if (grown >= 0) this.#set(domain, EntryWord.root, grown);
    this.#end();
    return grown < 0 ? VIRTIO_IOMMU_S_NOMEM : VIRTIO_IOMMU_S_OK;
  }

  /**
   * Unmaps what lies in pages `first` to `last`. Nothing happens when a mapping is only partly in there, and one that touches
   * `touchedFirst` to `touchedLast`, which may be a page more at either end, must be all in there, too. Returns a status.
   */
  unmap(
    domainId: number,
    first: number,
    last: number,
    touchedFirst: number = first,
    touchedLast: number = last,
  ): number {
    const domain = this.#domain(domainId);
    if (domain < 0) return VIRTIO_IOMMU_S_NOENT;
    const tree = this.#tree;
    const root = this.#get(domain, EntryWord.root);
    const lower = first > 0 ? tree.floor(root, first - 1) : 0;
    if (lower !== 0 && tree.last(lower) >= touchedFirst) return VIRTIO_IOMMU_S_RANGE;
    const upper = tree.floor(root, touchedLast);
    if (upper !== 0 && tree.last(upper) >= touchedFirst && tree.last(upper) > last) {
      return VIRTIO_IOMMU_S_RANGE;
    }
    if (upper === 0 || tree.first(upper) < first) return VIRTIO_IOMMU_S_OK; // there is nothing
    this.#begin();
    this.#set(domain, EntryWord.root, tree.removeWithin(root, first, last));
    this.#end();
    return VIRTIO_IOMMU_S_OK;
  }

  /** Detaches everything, which removes all mappings. What unattached endpoints may do stays as it is. */
  reset(): void {
    this.#begin();
    for (let index = 0; index < this.#words[Header.endpoints]; index++) this.#leave(index);
    this.#end();
  }

  /** Changes with every change of the table. */
  get sequence(): number {
    return Atomics.load(this.#words, Header.sequence);
  }

  /** Finds the range that `page` of an endpoint lies in; false if it has no access. Called in any Worker. */
  lookUp(endpoint: number, page: number, found: PageRange): boolean {
    for (let tries = 0; tries < SPINS + MAX_WAITS; tries++) {
      const sequence = this.sequence;
      if ((sequence & 1) === 0) {
        const success = this.#look(endpoint, page, found);
        if (this.sequence === sequence) return success;
      } else if (tries >= SPINS) Atomics.wait(this.#words, Header.sequence, sequence, WAIT_MS);
    }
    return false;
  }

  #look(endpoint: number, page: number, found: PageRange): boolean {
    const attached = this.#get(endpoint, EntryWord.attached);
    const passes = attached === NOT_ATTACHED
      ? this.#words[Header.bypass] !== 0
      : this.#get(attached - 1, EntryWord.bypass) !== 0;
    if (passes) {
      copyRange(found, EVERYTHING);
      return true;
    }
    if (attached === NOT_ATTACHED) return false;
    const tree = this.#tree;
    const node = tree.floor(this.#get(attached - 1, EntryWord.root), page);
    if (node === 0 || tree.last(node) < page) return false;
    found.first = tree.first(node);
    found.last = tree.last(node);
    found.target = tree.target(node);
    found.flags = tree.flags(node);
    return true;
  }

  #begin(): void {
    Atomics.add(this.#words, Header.sequence, 1);
  }

  #end(): void {
    Atomics.add(this.#words, Header.sequence, 1);
  }

  #leave(endpoint: number): void {
    const attached = this.#get(endpoint, EntryWord.attached);
    if (attached === NOT_ATTACHED) return;
    this.#set(endpoint, EntryWord.attached, NOT_ATTACHED);
    const members = this.#get(attached - 1, EntryWord.members) - 1;
    this.#set(attached - 1, EntryWord.members, members);
    if (members > 0) return;
    this.#tree.free(this.#get(attached - 1, EntryWord.root));
    this.#set(attached - 1, EntryWord.root, 0);
  }

  #endpoint(id: number): number {
    return this.#find(EntryWord.endpointId, id, false);
  }

  #domain(id: number): number {
    return this.#find(EntryWord.domainId, id, true);
  }

  #find(word: number, value: number, onlyUsed: boolean): number {
    for (let index = 0; index < this.#words[Header.endpoints]; index++) {
      if (this.#get(index, word) !== value) continue;
      if (!onlyUsed || this.#get(index, EntryWord.members) > 0) return index;
    }
    return -1;
  }

  /** There is one: an endpoint that is not attached is at hand. */
  #freeDomain(): number {
    for (let index = 0;; index++) if (this.#get(index, EntryWord.members) === 0) return index;
  }

  #get(index: number, word: number): number {
    return this.#entries[index * ENTRY_WORDS + word];
  }

  #set(index: number, word: number, value: number): void {
    this.#entries[index * ENTRY_WORDS + word] = value;
  }
}

function treeOffset(endpointCapacity: number): number {
  return Math.ceil((4 * (HEADER_WORDS + ENTRY_WORDS * endpointCapacity)) / 8) * 8;
}

function copyRange(target: PageRange, source: Readonly<PageRange>): void {
  target.first = source.first;
  target.last = source.last;
  target.target = source.target;
  target.flags = source.flags;
}

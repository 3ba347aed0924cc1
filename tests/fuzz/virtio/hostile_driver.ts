/**
 * A guest driver that breaks every rule of a virtqueue, by a seed.
 *
 * Tests only. Its memory has two regions that touch and one above 4 GiB, as a guest's has. Requests begin as sensible ones of
 * the device under test and are then damaged: lengths, addresses, flags, links, heads, indices, indirect tables.
 */
import { GuestMemory } from "@vmm/memory/guest_memory.ts";
import type { MockBuffer } from "@vmm/virtio/testing/mock_driver.ts";
import { VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE } from "@vmm/virtio/queue/split.ts";
import type { Random } from "@tests/differential/bodies.ts";

const KIB = 1024;
const LOW = 0x10_0000;
const LOW_BYTES = 512 * KIB;
/** Touches the first region. */
const NEXT = LOW + LOW_BYTES;
const NEXT_BYTES = 64 * KIB;
const HIGH = 2 ** 32 + 0x1_0000;
const HIGH_BYTES = 64 * KIB;
const DESCRIPTOR_BYTES = 16;
const PAGE = 4 * KIB;

/** Where a queue lies. */
export interface Rings {
  readonly size: number;
  descriptors: number;
  driver: number;
  device: number;
}

/** Lengths on the edges of what fits somewhere. */
const LENGTHS = [
  0,
  1,
  2,
  3,
  4,
  7,
  8,
  11,
  12,
  15,
  16,
  17,
  43,
  44,
  45,
  511,
  512,
  513,
  PAGE,
  65_535,
  0x7fff_ffff,
];
const HUGE = [0x8000_0000, 0xffff_fe00, 0xffff_fff0, 0xffff_ffff];

/** See the module. */
export class HostileDriver {
  readonly memory: GuestMemory;
  readonly #regions: { gpa: number; bytes: Uint8Array<ArrayBuffer>; view: DataView }[];
  #free = LOW;
  readonly #available: number[] = [];
  readonly #nextDescriptor: number[] = [];
  readonly rings: Rings[] = [];
  /** Nothing is disturbed: for what has to work. */
  calm = false;

  constructor(readonly random: Random) {
    const regions = [[LOW, LOW_BYTES], [NEXT, NEXT_BYTES], [HIGH, HIGH_BYTES]].map(([gpa, sizeBytes]) => ({
      gpa,
      sizeBytes,
      hostAddress: BigInt(gpa),
      buffer: new ArrayBuffer(sizeBytes),
    }));
    this.memory = new GuestMemory(regions);
    this.#regions = regions.map(({ gpa, buffer }) => {
      return { gpa, bytes: new Uint8Array(buffer), view: new DataView(buffer) };
    });
  }

  /** Guest bytes by host address, which is the guest's here. @throws Error outside RAM: the handler leaked an address */
  hostBytes(address: number, lengthBytes: number): Uint8Array<ArrayBuffer> {
    const bytes = this.memory.bytes(address, lengthBytes);
    if (bytes === undefined) throw new Error(`A port was given ${lengthBytes} bytes at ${address}, not RAM`);
    return bytes;
  }

  /** The pieces of an iovec list. @throws Error when one is not RAM */
  pieces(iov: Uint8Array<ArrayBuffer>, count: number): Uint8Array<ArrayBuffer>[] {
    const words = new BigUint64Array(iov.buffer, iov.byteOffset, 2 * count);
    return Array.from(
      { length: count },
      (_, i) => this.hostBytes(Number(words[2 * i]), Number(words[2 * i + 1])),
    );
  }

  /** Zeroes memory and lays out `sizes.length` queues, properly. */
  layOut(sizes: readonly number[]): void {
    for (const { bytes } of this.#regions) bytes.fill(0);
    this.#free = LOW;
    this.rings.length = this.#available.length = this.#nextDescriptor.length = 0;
    for (const size of sizes) {
      const descriptors = this.#take(DESCRIPTOR_BYTES * size);
      const driver = this.#take(6 + 2 * size);
      this.rings.push({ size, descriptors, driver, device: this.#take(6 + 8 * size) });
      this.#available.push(0);
      this.#nextDescriptor.push(0);
    }
  }

  /** Puts rings where they should not be: over each other, unaligned, at an end of RAM, outside. */
  misplaceRings(): void {
    const rings = this.random.pick(this.rings);
    const other = this.random.pick(this.rings);
    const key = this.random.pick(["descriptors", "driver", "device"] as const);
    rings[key] = this.random.pick([
      other.descriptors,
      other.driver,
      other.device,
      rings.device + 2,
      NEXT - 16,
      NEXT + NEXT_BYTES - 8,
      HIGH,
      HIGH + HIGH_BYTES - 4,
      0,
      0xffff_fff0,
      2 ** 52,
      this.address(),
    ]);
  }

  /** An address: mostly in RAM, sometimes on an edge or outside. */
  address(): number {
    const { random } = this;
    switch (random.below(8)) {
      case 0:
        return random.pick([0, 1, LOW - 1, NEXT - 1, NEXT - 8, NEXT + NEXT_BYTES - 1, NEXT + NEXT_BYTES]);
      case 1:
        return random.pick([
          HIGH - 1,
          HIGH,
          HIGH + HIGH_BYTES - 1,
          2 ** 32,
          2 ** 40,
          2 ** 53,
          2 ** 64 - 4096,
        ]);
      case 2: {
        const rings = random.pick(this.rings);
        return random.pick([rings.descriptors, rings.driver, rings.device]) + random.below(64);
      }
      case 3:
        return HIGH + random.below(HIGH_BYTES);
      default:
        return LOW + random.below(LOW_BYTES + NEXT_BYTES);
    }
  }

  length(): number {
    const { random } = this;
    return random.chance(0.1)
      ? random.pick(HUGE)
      : random.chance(0.8)
      ? random.pick(LENGTHS)
      : random.below(70_000);
  }

  /** Makes a sensible request available. @returns head and buffer addresses */
  submit(
    queue: number,
    buffers: readonly MockBuffer[],
    indirect = false,
  ): { head: number; addresses: number[] } {
    const rings = this.rings[queue];
    const addresses = buffers.map((buffer) => this.#place(buffer));
    const head = this.#nextDescriptor[queue];
    const table = indirect ? this.#take(DESCRIPTOR_BYTES * buffers.length) : rings.descriptors;
    buffers.forEach((buffer, i) => {
      const index = indirect ? i : (head + i) % rings.size;
      const next = indirect ? i + 1 : (head + i + 1) % rings.size;
      const isLast = i === buffers.length - 1;
      const length = "send" in buffer ? buffer.send.byteLength : buffer.receive;
      const flags = ("send" in buffer ? 0 : VIRTQ_DESC_F_WRITE) | (isLast ? 0 : VIRTQ_DESC_F_NEXT);
      this.#describe(table, index, addresses[i], length, flags, next);
    });
    if (indirect) {
      this.#describe(
        rings.descriptors,
        head,
        table,
        DESCRIPTOR_BYTES * buffers.length,
        VIRTQ_DESC_F_INDIRECT,
        0,
      );
    }
    this.#nextDescriptor[queue] = (head + (indirect ? 1 : buffers.length)) % rings.size;
    this.offer(queue, head);
    return { head, addresses };
  }

  /** Puts a head into the available ring and moves the index on. */
  offer(queue: number, head: number): void {
    const rings = this.rings[queue];
    this.#write16(rings.driver + 4 + 2 * (this.#available[queue] % rings.size), head);
    this.setAvailable(queue, this.#available[queue] + 1);
  }

  setAvailable(queue: number, index: number): void {
    this.#available[queue] = index & 0xffff;
    this.#write16(this.rings[queue].driver + 2, index & 0xffff);
  }

  usedIndex(queue: number): number {
    return this.memory.readU16(this.rings[queue].device + 2);
  }

  /** One thing a driver must not do, or a descriptor nobody would write. */
  misbehave(queue: number): void {
    const { random } = this;
    const rings = this.rings[queue];
    switch (random.below(9)) {
      case 0: // an index beyond the queue, or backwards
        this.setAvailable(
          queue,
          this.#available[queue] + random.pick([rings.size, rings.size + 1, -1, 0x8000]),
        );
        break;
      case 1: // a head that is no descriptor
        this.offer(queue, random.pick([rings.size, rings.size + 1, 0x7fff, 0xffff]));
        break;
      case 2: { // a chain that loops
        const length = 1 + random.below(4);
        for (let i = 0; i < length; i++) {
          this.#describe(
            rings.descriptors,
            i % rings.size,
            this.address(),
            8,
            VIRTQ_DESC_F_NEXT,
            (i + 1) % length,
          );
        }
        this.offer(queue, 0);
        break;
      }
      case 3: // an indirect table of a length, at a place or with contents that are not allowed
        this.#describe(
          rings.descriptors,
          0,
          this.address(),
          random.pick([0, 8, 15, 16, 32, 160, 16 * 1025, 0x8000_0000, 0xffff_fff0]),
          VIRTQ_DESC_F_INDIRECT | random.below(4),
          random.below(rings.size),
        );
        this.offer(queue, 0);
        break;
      case 4: // bytes anywhere
        this.scribble(64);
        this.offer(queue, random.below(rings.size));
        break;
      case 5: // the same chain again, while it may be in flight
        this.offer(queue, random.below(rings.size));
        break;
      default: { // a chain of arbitrary descriptors: zero, huge, overlapping, outside, in the wrong order
        const head = random.below(rings.size);
        const length = 1 + random.below(6);
        for (let i = 0; i < length; i++) {
          const flags = random.chance(0.1)
            ? random.below(0x1_0000)
            : (random.chance(0.5) ? VIRTQ_DESC_F_WRITE : 0) | (i + 1 < length ? VIRTQ_DESC_F_NEXT : 0);
          const next = random.chance(0.05) ? random.below(0x1_0000) : (head + i + 1) % rings.size;
          this.#describe(
            rings.descriptors,
            (head + i) % rings.size,
            this.address(),
            this.length(),
            flags,
            next,
          );
        }
        this.offer(queue, head);
      }
    }
  }

  /** Damages a descriptor in use, as another processor would while the device reads. */
  disturb(): void {
    const { random } = this;
    if (this.calm || this.rings.length === 0 || random.chance(0.7)) return;
    const rings = random.pick(this.rings);
    const at = random.pick([rings.descriptors, rings.driver, rings.device]) + random.below(48);
    const bytes = this.memory.bytes(at, 1);
    if (bytes !== undefined) bytes[0] = random.below(256);
    if (random.chance(0.2)) this.scribble(8);
  }

  /** Writes `count` random bytes into RAM, rings included. */
  scribble(count: number): void {
    for (let i = 0; i < count; i++) {
      const { bytes } = this.random.pick(this.#regions);
      bytes[this.random.below(bytes.byteLength)] = this.random.below(256);
    }
  }

  #place(buffer: MockBuffer): number {
    const at = this.#take("send" in buffer ? buffer.send.byteLength : buffer.receive);
    if ("send" in buffer) this.memory.bytes(at, buffer.send.byteLength)!.set(buffer.send);
    return at;
  }

  /** Room in the first region; from behind the rings again once it is used up. */
  #take(lengthBytes: number): number {
    if (this.#free + lengthBytes > NEXT) {
      const last = this.rings.at(-1)!;
      this.#free = Math.max(last.descriptors, last.driver, last.device) + 6 + 8 * last.size;
      if (!(this.#free >= LOW && this.#free + lengthBytes <= NEXT)) this.#free = NEXT - LOW_BYTES / 2;
    }
    const at = Math.ceil(this.#free / 16) * 16;
    this.#free = at + lengthBytes;
    return at;
  }

  #describe(
    table: number,
    index: number,
    address: number,
    length: number,
    flags: number,
    next: number,
  ): void {
    const at = table + DESCRIPTOR_BYTES * index;
    const bytes = this.memory.bytes(at, DESCRIPTOR_BYTES);
    if (bytes === undefined) return; // rings that lie outside
    const view = new DataView(bytes.buffer, bytes.byteOffset, DESCRIPTOR_BYTES);
    view.setBigUint64(0, BigInt.asUintN(64, BigInt(address)), true);
    view.setUint32(8, length, true);
    view.setUint16(12, flags, true);
    view.setUint16(14, next, true);
  }

  #write16(gpa: number, value: number): void {
    const bytes = this.memory.bytes(gpa, 2);
    if (bytes !== undefined) new DataView(bytes.buffer, bytes.byteOffset).setUint16(0, value & 0xffff, true);
  }
}

import assert from "node:assert/strict";
import { DescriptorChain } from "../queue/chain.ts";
import { SplitQueue, VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE } from "../queue/split.ts";
import { MockDriver } from "../testing/mock_driver.ts";
import { MappingTable } from "./mapping_table.ts";
import { RingMirror } from "./ring_mirror.ts";
import { EndpointTranslation } from "./translation.ts";

const ENDPOINT = 8;
const RAM = 0x10_0000;
const RAM_PAGE = RAM / 4096;
/** Where the device sees RAM from page 16 on, in the order of `map`. */
const IOVA_PAGE = 0x7_0000;
const IOVA = IOVA_PAGE * 4096;

/** A queue behind an IOMMU; page `i` of the device's window is the RAM page `pages[i]`. */
function setUp(pages: readonly number[], flags: readonly number[] = []) {
  const driver = new MockDriver();
  const table = MappingTable.create(1, 32);
  const endpoint = table.addEndpoint(ENDPOINT);
  table.attach(1, ENDPOINT, false);
  pages.forEach((page, i) =>
    table.map(1, {
      first: IOVA_PAGE + i,
      last: IOVA_PAGE + i,
      target: RAM_PAGE + page,
      flags: flags[i] ?? 3,
    })
  );
  const queue = SplitQueue.create(
    driver.memory,
    {
      size: driver.size,
      descriptors: driver.descriptors,
      driver: driver.driver,
      device: driver.device,
      eventIndex: false,
      indirect: true,
      nextAvail: 0,
      nextUsed: 0,
    },
    new EndpointTranslation({ table: table.buffer, endpoint }),
  );
  assert.ok(queue instanceof SplitQueue);
  return { driver, table, queue, chain: new DescriptorChain() };
}

Deno.test("a buffer that lies together for the device is gathered from where its pages are", () => {
  const { driver, queue, chain } = setUp([20, 22, 17]);
  driver.describe(0, IOVA + 0x800, 0x2000, 0);
  driver.offer(0);
  for (const [page, value] of [[20, 1], [22, 2], [17, 3]]) {
    driver.at(RAM + page * 4096, 4096).fill(value);
  }
  assert.equal(queue.pop(chain), true);
  assert.deepEqual([chain.count, chain.readableBytes, chain.writableBytes], [3, 0x2000, 0]);
  assert.deepEqual([0, 1, 2].map((i) => chain.address(i)), [
    RAM + 20 * 4096 + 0x800,
    RAM + 22 * 4096,
    RAM + 17 * 4096,
  ]);
  assert.deepEqual([0x7ff, 0x800, 0x17ff, 0x1800].map((at) => chain.readU8(at)), [1, 2, 2, 3]);
  assert.equal(chain.gather(false, 0x700, 0x200), 2);
});

Deno.test("readable and writable pieces are counted apart", () => {
  const { driver, queue, chain } = setUp([20, 22, 24, 26]);
  driver.describe(0, IOVA + 0xff0, 0x20, VIRTQ_DESC_F_NEXT, 1);
  driver.describe(1, IOVA + 0x2ff0, 0x20, VIRTQ_DESC_F_WRITE);
  driver.offer(0);
  assert.equal(queue.pop(chain), true);
  assert.deepEqual([chain.count, chain.readableCount, chain.readableBytes, chain.writableBytes], [
    4,
    2,
    32,
    32,
  ]);
  chain.writeU32(0x0e, 0x0403_0201);
  assert.deepEqual([...driver.at(RAM + 24 * 4096 + 0xffe, 2)], [1, 2]);
  assert.deepEqual([...driver.at(RAM + 26 * 4096, 2)], [3, 4]);
});

for (
  const [what, address, length, flags] of [
    ["is not mapped", IOVA + 0x2000, 16, 0],
    ["is mapped in part", IOVA + 0x1ff0, 32, 0],
    ["may only be read", IOVA + 0x1000, 16, VIRTQ_DESC_F_WRITE],
    ["is physical", RAM + 0x4000, 16, 0],
    ["is mapped to no RAM", IOVA + 0x3000, 16, 0],
  ] as const
) {
  Deno.test(`a buffer that ${what} stops the queue`, () => {
    const { driver, table, queue, chain } = setUp([20, 21], [3, 1]);
    table.map(1, { first: IOVA_PAGE + 3, last: IOVA_PAGE + 3, target: 2 ** 51, flags: 3 });
    driver.describe(0, address, length, flags);
    driver.offer(0);
    assert.equal(queue.pop(chain), false);
    assert.match(queue.fault!.fault, /not mapped/);
  });
}

Deno.test("a mapping that goes is not used any more", () => {
  const { driver, table, queue, chain } = setUp([20]);
  for (let i = 0; i < 2; i++) {
    driver.describe(i, IOVA, 16, 0);
    driver.offer(i);
  }
  assert.equal(queue.pop(chain), true);
  table.unmap(1, IOVA_PAGE, IOVA_PAGE);
  assert.equal(queue.pop(chain), false);
  assert.notEqual(queue.fault, undefined);
});

Deno.test("a chain cannot be cut into pieces without end", () => {
  const driver = new MockDriver({ size: 32, ramBytes: 1 << 20 });
  const table = MappingTable.create(1, 1024);
  const endpoint = table.addEndpoint(ENDPOINT);
  table.attach(1, ENDPOINT, false);
  for (let i = 0; i < 1024; i++) {
    table.map(1, { first: IOVA_PAGE + i, last: IOVA_PAGE + i, target: RAM_PAGE + 100 + (i & 1), flags: 3 });
  }
  const { size, descriptors, driver: available, device } = driver;
  const layout = { size, descriptors, driver: available, device, eventIndex: false, indirect: false };
  const translation = new EndpointTranslation({ table: table.buffer, endpoint });
  const queue = SplitQueue.create(driver.memory, { ...layout, nextAvail: 0, nextUsed: 0 }, translation);
  assert.ok(queue instanceof SplitQueue);
  for (let i = 0; i < 32; i++) driver.describe(i, IOVA, 1024 * 4096, i < 31 ? VIRTQ_DESC_F_NEXT : 0, i + 1);
  driver.offer(0);
  assert.equal(queue.pop(new DescriptorChain()), false);
});

Deno.test("indirect tables are not taken behind an IOMMU", () => {
  const { driver, queue, chain } = setUp([20]);
  driver.describe(0, IOVA, 16, 4);
  driver.offer(0);
  assert.equal(queue.pop(chain), false);
});

/** A queue of 512 whose rings lie together for driver and device, and in memory page by page, backwards. */
function scattered(eventIndex: boolean) {
  const driver = new MockDriver({ size: 512, eventIndex });
  const { size, descriptors, driver: available, device } = driver;
  const tail = eventIndex ? 2 : 0;
  const rings = {
    table: [descriptors, 16 * size],
    available: [available, 4 + 2 * size + tail],
    used: [device, 4 + 8 * size + tail],
  } as const;
  const physical = (gpa: number) =>
    gpa - gpa % 4096 + (100 - 2 * Math.floor((gpa - RAM) / 4096)) * 4096 + gpa % 4096;
  const pieces = ([start, length]: readonly [number, number]) => {
    const found = [];
    for (let at = start; at < start + length;) {
      const end = Math.min(start + length, at - at % 4096 + 4096);
      found.push({ gpa: physical(at), lengthBytes: end - at });
      at = end;
    }
    return found;
  };
  /** Carries a ring from the driver's view to memory, or back. */
  const carry = ([start, length]: readonly [number, number], back: boolean) => {
    for (let at = start; at < start + length; at++) {
      const [from, to] = back ? [physical(at), at] : [at, physical(at)];
      driver.bytes[to - RAM] = driver.bytes[from - RAM];
    }
  };
  const table = MappingTable.create(1, 32);
  const endpoint = table.addEndpoint(ENDPOINT); // attached to nothing: addresses of buffers are physical
  const mirror = RingMirror.create(
    driver.memory,
    pieces(rings.table),
    pieces(rings.available),
    pieces(rings.used),
  )!;
  const queue = SplitQueue.create(
    driver.memory,
    { size, eventIndex, indirect: false, nextAvail: 0, nextUsed: 0, ...addressesOf(mirror) },
    new EndpointTranslation({ table: table.buffer, endpoint }),
    mirror,
  );
  assert.ok(queue instanceof SplitQueue);
  const give = () => {
    carry(rings.table, false);
    carry(rings.available, false);
  };
  return { driver, queue, give, take: () => carry(rings.used, true) };
}

function addressesOf({ descriptors, driver, device }: RingMirror) {
  return { descriptors, driver, device };
}

for (const eventIndex of [false, true]) {
  Deno.test(`rings in pieces work as rings in one, ${eventIndex ? "event index" : "flags"}`, () => {
    const { driver, queue, give, take } = scattered(eventIndex);
    const chain = new DescriptorChain();
    for (let round = 0; round < 700; round++) {
      const { head } = driver.submit([{ send: Uint8Array.of(round, round >> 8) }, { receive: 2 }]);
      if (round % 3 === 0) driver.setUsedEvent(round);
      give();
      queue.disableNotifications();
      assert.equal(queue.pop(chain), true);
      assert.deepEqual([chain.head, chain.readU16(0)], [head, round]);
      chain.writeU16(0, ~round & 0xffff);
      queue.push(chain.head, 2);
      const wantsInterrupt = queue.publish();
      if (eventIndex) assert.equal(wantsInterrupt, round % 3 === 0);
      assert.equal(queue.enableNotifications(), false);
      take();
      assert.equal(driver.wantsNotification(), true);
      assert.deepEqual(driver.complete(), { head, writtenBytes: 2 });
      assert.equal(driver.complete(), undefined);
    }
    driver.suppressInterrupts(true);
    driver.submit([{ receive: 2 }]);
    give();
    assert.equal(queue.hasRequests(), true);
    assert.equal(queue.pop(chain), true);
    queue.push(chain.head, 0);
    assert.equal(queue.publish(), false);
  });
}

Deno.test("rings in pieces that are no RAM, or not aligned, have no mirror", () => {
  const { memory } = new MockDriver();
  const piece = (gpa: number, lengthBytes = 4096) => [{ gpa, lengthBytes }];
  const good = piece(RAM);
  assert.equal(RingMirror.create(memory, piece(8), good, good), undefined);
  assert.equal(RingMirror.create(memory, piece(0), good, good), undefined);
  assert.equal(RingMirror.create(memory, good, piece(RAM + 1), good), undefined);
  assert.equal(RingMirror.create(memory, good, piece(RAM, 2), good), undefined);
  assert.equal(RingMirror.create(memory, good, good, piece(RAM + 2)), undefined);
  assert.equal(RingMirror.create(memory, good, good, [...good, ...piece(RAM + (1 << 20) - 4)]), undefined);
  assert.notEqual(RingMirror.create(memory, good, good, good), undefined);
});

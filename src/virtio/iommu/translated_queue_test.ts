import assert from "node:assert/strict";
import { DescriptorChain } from "../queue/chain.ts";
import { SplitQueue, VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE } from "../queue/split.ts";
import { MockDriver } from "../testing/mock_driver.ts";
import { MappingTable } from "./mapping_table.ts";
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

Deno.test("rings that are not mapped make no queue", () => {
  const driver = new MockDriver();
  const { size, descriptors, device } = driver;
  const layout = { size, descriptors, driver: -1, device, eventIndex: false, indirect: false };
  const made = SplitQueue.create(driver.memory, { ...layout, nextAvail: 0, nextUsed: 0 });
  assert.deepEqual(made, { fault: "a ring is not mapped for the device in one piece" });
});

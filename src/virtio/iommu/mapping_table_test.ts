import assert from "node:assert/strict";
import { MappingTable } from "./mapping_table.ts";
import {
  LAST_PAGE,
  VIRTIO_IOMMU_S_INVAL,
  VIRTIO_IOMMU_S_NOENT,
  VIRTIO_IOMMU_S_NOMEM,
  VIRTIO_IOMMU_S_OK,
  VIRTIO_IOMMU_S_RANGE,
} from "./spec.ts";
import { EndpointTranslation } from "./translation.ts";

const READ_WRITE = 3;
const PAGE = 4096;

/** A table with endpoints 8, 16 and 24. */
function setUp(mappings = 64) {
  const table = MappingTable.create(4, mappings);
  const [first, second] = [8, 16, 24].map((id) => table.addEndpoint(id));
  const range = { first: 0, last: 0, target: 0, flags: 0 };
  const page = (endpoint: number, at: number) => {
    if (!table.lookUp(endpoint, at, range)) return undefined;
    return range.target + (at - range.first);
  };
  const map = (domain: number, first: number, last: number, target: number, flags = READ_WRITE) =>
    table.map(domain, { first, last, target, flags });
  return { table, first, second, page, map };
}

Deno.test("what is attached to nothing passes until bypass is switched off", () => {
  const { table, first, page } = setUp();
  assert.equal(page(first, LAST_PAGE), LAST_PAGE);
  table.setBypass(false);
  assert.equal(page(first, 5), undefined);
});

Deno.test("an attached endpoint reaches what its domain maps, and nothing else", () => {
  const { table, first, second, page, map } = setUp();
  assert.equal(table.attach(1, 8, false), VIRTIO_IOMMU_S_OK);
  assert.equal(map(1, 10, 19, 100), VIRTIO_IOMMU_S_OK);
  assert.deepEqual([9, 10, 19, 20].map((at) => page(first, at)), [undefined, 100, 109, undefined]);
  assert.equal(page(second, 10), 10);
  assert.equal(table.attach(1, 16, false), VIRTIO_IOMMU_S_OK);
  assert.equal(page(second, 10), 100);
});

Deno.test("a domain dies with its last endpoint", () => {
  const { table, first, page, map } = setUp();
  table.attach(1, 8, false);
  table.attach(1, 16, false);
  map(1, 0, 0, 7);
  table.detach(1, 8);
  assert.equal(map(1, 1, 1, 8), VIRTIO_IOMMU_S_OK);
  assert.equal(table.attach(2, 16, false), VIRTIO_IOMMU_S_OK);
  assert.equal(map(1, 2, 2, 8), VIRTIO_IOMMU_S_NOENT);
  table.attach(1, 8, false);
  assert.equal(page(first, 0), undefined);
});

Deno.test("attach() refuses what is not there, and domains of the other kind", () => {
  const { table, first, page } = setUp();
  assert.equal(table.attach(1, 9, false), VIRTIO_IOMMU_S_NOENT);
  assert.equal(table.attach(1, 8, true), VIRTIO_IOMMU_S_OK);
  assert.equal(page(first, 1234), 1234);
  assert.equal(table.attach(1, 8, false), VIRTIO_IOMMU_S_INVAL);
  assert.equal(table.attach(1, 16, false), VIRTIO_IOMMU_S_INVAL);
  assert.deepEqual([table.checkMappable(1), table.checkMappable(2)], [
    VIRTIO_IOMMU_S_INVAL,
    VIRTIO_IOMMU_S_NOENT,
  ]);
  table.detach(2, 8);
  assert.equal(table.attach(1, 16, false), VIRTIO_IOMMU_S_INVAL);
  table.detach(1, 8);
  assert.equal(table.attach(1, 16, false), VIRTIO_IOMMU_S_OK);
});

Deno.test("every endpoint may have a domain of its own, and move through many", () => {
  const { table } = setUp();
  for (let round = 0; round < 100; round++) {
    for (const id of [8, 16, 24]) assert.equal(table.attach(round * 100 + id, id, false), VIRTIO_IOMMU_S_OK);
  }
});

Deno.test("unmap() takes whole mappings only", () => {
  const { table, first, page, map } = setUp();
  table.attach(1, 8, false);
  map(1, 10, 19, 100);
  map(1, 20, 29, 200);
  for (const [from, to] of [[0, 10], [10, 18], [11, 29], [15, 16], [19, 20], [0, 28]]) {
    assert.equal(table.unmap(1, from, to), VIRTIO_IOMMU_S_RANGE, `${from}-${to}`);
  }
  assert.equal(table.unmap(1, 0, 9), VIRTIO_IOMMU_S_OK);
  assert.equal(table.unmap(1, 10, 29), VIRTIO_IOMMU_S_OK);
  assert.deepEqual([page(first, 10), page(first, 20)], [undefined, undefined]);
  assert.equal(table.unmap(3, 0, 9), VIRTIO_IOMMU_S_NOENT);
});

Deno.test("mappings are bounded, and come back when they are given up", () => {
  const { table, map } = setUp(16);
  table.attach(1, 8, false);
  table.attach(2, 16, false);
  const fill = (domain: number) => {
    let count = 0;
    while (map(domain, 2 * count, 2 * count, 0) === VIRTIO_IOMMU_S_OK) count++;
    assert.equal(map(domain, 2 * count, 2 * count, 0), VIRTIO_IOMMU_S_NOMEM);
    return count;
  };
  assert.equal(fill(1), 16);
  assert.equal(table.unmap(1, 0, 9), VIRTIO_IOMMU_S_OK);
  assert.equal(fill(2), 5);
  table.detach(1, 8);
  assert.equal(table.unmap(2, 0, LAST_PAGE), VIRTIO_IOMMU_S_OK);
  assert.equal(fill(2), 16);
  table.reset();
  table.attach(3, 24, false);
  assert.equal(fill(3), 16);
});

Deno.test("reset() detaches everything and leaves bypass alone", () => {
  const { table, first, page, map } = setUp();
  table.attach(1, 8, false);
  map(1, 0, 0, 7);
  table.reset();
  assert.equal(page(first, 3), 3);
  table.setBypass(false);
  table.reset();
  assert.equal(page(first, 3), undefined);
});

Deno.test("random mappings are what a list of them says", () => {
  let seed = 7;
  const random = (below: number) =>
    ((seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0) >>> 8) % below;
  const { table, first, page, map } = setUp(48);
  table.attach(1, 8, false);
  let list: { first: number; last: number; target: number }[] = [];
  for (let round = 0; round < 800; round++) {
    const from = random(200);
    const to = from + random(6);
    const touching = list.filter((entry) => entry.first <= to && entry.last >= from);
    if (random(2) === 0) {
      const target = random(1000);
      const status = map(1, from, to, target);
      if (touching.length > 0) assert.equal(status, VIRTIO_IOMMU_S_INVAL);
      else if (list.length === 48) assert.equal(status, VIRTIO_IOMMU_S_NOMEM);
      else {
        assert.equal(status, VIRTIO_IOMMU_S_OK);
        list.push({ first: from, last: to, target });
      }
    } else {
      const end = to + random(8);
      const inside = list.filter((entry) => entry.first <= end && entry.last >= from);
      const partial = inside.some((entry) => entry.first < from || entry.last > end);
      assert.equal(table.unmap(1, from, end), partial ? VIRTIO_IOMMU_S_RANGE : VIRTIO_IOMMU_S_OK);
      if (!partial) list = list.filter((entry) => !inside.includes(entry));
    }
    const at = random(210);
    const entry = list.find((entry) => entry.first <= at && entry.last >= at);
    assert.equal(page(first, at), entry && entry.target + at - entry.first);
  }
});

Deno.test("EndpointTranslation follows mappings, access rights and changes", () => {
  const { table, first, map } = setUp();
  const translation = new EndpointTranslation({ table: table.buffer, endpoint: first });
  assert.equal(translation.find(0, 0x1234, READ_WRITE), 0x1234);
  table.attach(1, 8, false);
  assert.equal(translation.find(0, 0x1234, READ_WRITE), -1);
  map(1, 1, 2, 50);
  map(1, 3, 3, 52, 1);
  map(1, 2 ** 51, 2 ** 51, 60, 2);
  assert.deepEqual([translation.find(0, 0x1234, READ_WRITE), translation.runBytes], [
    50 * PAGE + 0x234,
    0x1dcc,
  ]);
  assert.deepEqual([1, 2, 3].map((access) => translation.find(0, 0x3000, access)), [52 * PAGE, -1, -1]);
  assert.equal(translation.find(0x8000_0000, 0x10, 2), 60 * PAGE + 0x10);
  // Rings may lie across mappings whose memory follows on.
  const together = [{ gpa: 50 * PAGE + 0x800, lengthBytes: 0x2000 }];
  assert.deepEqual(translation.findAll(0, 0x1800, 0x2000, 1), together);
  assert.equal(translation.findAll(0, 0x1800, 0x2800, 3), undefined);
  assert.equal(translation.findAll(0, 0x1800, 0x2801, 1), undefined);
  assert.deepEqual(translation.refused, { high: 0, low: 0x4000, access: 1 });
  table.unmap(1, 1, 2);
  assert.equal(translation.find(0, 0x1234, READ_WRITE), -1);
});

Deno.test("a translation at the end of the low word goes on in the next", () => {
  const { table, first, map } = setUp();
  table.attach(1, 8, false);
  map(1, 0xf_ffff, 0x10_0000, 9);
  const translation = new EndpointTranslation({ table: table.buffer, endpoint: first });
  assert.deepEqual(translation.findAll(0, 0xffff_f800, 0x1000, 3), [{
    gpa: 9 * PAGE + 0x800,
    lengthBytes: 0x1000,
  }]);
  assert.equal(translation.find(1, 0x10, 3), 10 * PAGE + 0x10);
});

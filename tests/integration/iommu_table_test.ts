/** The mapping table of the virtual IOMMU under several threads: who looks never sees half a change. */
import assert from "node:assert/strict";
import { HOST_TIMEOUT_MS } from "@tests/framework/deadline.ts";
import { MappingTable } from "@vmm/virtio/iommu/mapping_table.ts";

const PAGES = 64;
/** This many looks, or as many as fit the time, while the writer does at least this many rounds. */
const LOOKS = 20_000;
const LOOKS_MS = 10_000;
const ROUNDS = 50;

/** Maps and unmaps until told to stop; page `i` is mapped to `i` plus a multiple of 1,000. */
const WRITER = `
import { MappingTable } from "@vmm/virtio/iommu/mapping_table.ts";
self.onmessage = ({ data }) => {
  const table = new MappingTable(data.table);
  const stop = new Int32Array(data.stop);
  table.attach(1, 8, false);
  for (let round = 1; Atomics.load(stop, 0) === 0; round++) {
    const first = round * 7 % ${PAGES};
    const last = Math.min(first + round % 4, ${PAGES} - 1);
    table.unmap(1, 0, ${PAGES});
    for (let page = 0; page < ${PAGES}; page += 4) {
      table.map(1, { first: page, last: page + 2, target: page + 1000 * (round % 50), flags: 3 });
    }
    if (round % 5 === 0) table.unmap(1, first - first % 4, last - last % 4 + 3);
    if (round % 100 === 0) { table.attach(2, 8, false); table.attach(1, 8, false); }
    Atomics.store(stop, 1, round);
  }
  self.close();
};`;

Deno.test("lookups beside a writer find whole mappings or nothing", async () => {
  const table = MappingTable.create(1, 4 * PAGES);
  const endpoint = table.addEndpoint(8);
  table.setBypass(false);
  const stop = new Int32Array(new SharedArrayBuffer(8));
  const source = `data:application/javascript,${encodeURIComponent(WRITER)}`;
  const worker = new Worker(source, { type: "module" });
  try {
    worker.postMessage({ table: table.buffer, stop: stop.buffer });
    while (Atomics.load(stop, 1) === 0) await Promise.resolve(Atomics.waitAsync(stop, 1, 0, 20).value);
    const range = { first: 0, last: 0, target: 0, flags: 0 };
    let found = 0;
    const rounds = () => Atomics.load(stop, 1);
    const began = Date.now();
    let limit = LOOKS;
    for (let look = 0; look < limit || rounds() < ROUNDS; look++) {
      if (look % 100 === 0) {
        // A writer that lost its CPU inside a change makes each look wait for it.
        if (Date.now() - began > LOOKS_MS) limit = 0;
        assert.ok(Date.now() - began < HOST_TIMEOUT_MS, `the writer is in round ${rounds()}`);
      }
      const page = look % PAGES;
      if (!table.lookUp(endpoint, page, range)) continue;
      found++;
      assert.ok(range.first <= page && range.last >= page);
      assert.equal(range.first % 4, 0);
      assert.equal(range.last, range.first + 2);
      assert.equal((range.target - range.first) % 1000, 0);
      assert.notEqual(page % 4, 3);
    }
    assert.ok(found > 0);
  } finally {
    Atomics.store(stop, 0, 1);
    worker.terminate();
  }
});

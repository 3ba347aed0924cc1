/**
 * Cost of a block-like request (header, data, status) on the device's side of a queue: pop, gather, push, publish.
 *
 * Run by hand: `deno bench tests/perf/queue_walk_bench.ts`; one iteration is a batch of 32 requests.
 */
import { MockDriver } from "@vmm/virtio/testing/mock_driver.ts";
import { MappingTable } from "@vmm/virtio/iommu/mapping_table.ts";
import { EndpointTranslation } from "@vmm/virtio/iommu/translation.ts";
import { DescriptorChain } from "@vmm/virtio/queue/chain.ts";
import { SplitQueue } from "@vmm/virtio/queue/split.ts";

const BATCH = 32;
const SIZE = 128;

/** The driver's queue behind a virtual IOMMU with many mappings, of which one holds all of RAM. */
function translated(driver: MockDriver): SplitQueue {
  const table = MappingTable.create(1, 4096);
  const endpoint = table.addEndpoint(8);
  table.attach(1, 8, false);
  for (let page = 0x1000; page < 0x1800; page++) {
    table.map(1, { first: page, last: page, target: page, flags: 3 });
  }
  const [{ gpa, sizeBytes }] = driver.memory.regions;
  const first = gpa / 4096;
  table.map(1, { first, last: first + sizeBytes / 4096 - 1, target: first, flags: 3 });
  const { size, descriptors, driver: available, device, eventIndex } = driver;
  const layout = { size, descriptors, driver: available, device, eventIndex, indirect: false };
  const translation = new EndpointTranslation({ table: table.buffer, endpoint });
  return SplitQueue.create(
    driver.memory,
    { ...layout, nextAvail: 0, nextUsed: 0 },
    translation,
  ) as SplitQueue;
}

for (const how of ["direct", "indirect", "direct, translated"]) {
  const indirect = how === "indirect";
  const driver = new MockDriver({ size: SIZE, indirect, eventIndex: true });
  const queue = how === "direct, translated" ? translated(driver) : driver.queue();
  const chain = new DescriptorChain();
  const request = [{ send: new Uint8Array(16) }, { receive: 4096 }, { receive: 1 }];
  const heads = Array.from({ length: BATCH }, () => driver.submit(request).head);
  // the same requests over and over: the driver's part is one store per batch
  const avail = new Uint16Array(
    driver.at(driver.driver, 4 + 2 * SIZE).buffer,
    driver.driver - driver.descriptors,
  );
  for (let i = 0; i < SIZE; i++) avail[2 + i] = heads[i % BATCH];
  let available = 0;
  let covered = 0;

  Deno.bench(`32 requests, ${how} descriptors`, () => {
    available = (available + BATCH) & 0xffff;
    avail[1] = available;
    do {
      while (queue.pop(chain)) {
        covered += chain.readU32(0) + chain.gather(true, 0, chain.writableBytes - 1);
        queue.push(chain.head, 4097);
      }
      queue.publish();
    } while (queue.enableNotifications());
  });
}

/**
 * Cost of a block-like request (header, data, status) on the device's side of a queue: pop, gather, push, publish.
 *
 * Run by hand: `deno bench tests/perf/queue_walk_bench.ts`; one iteration is a batch of 32 requests.
 */
import { MockDriver } from "@vmm/virtio/testing/mock_driver.ts";
import { DescriptorChain } from "@vmm/virtio/queue/chain.ts";

const BATCH = 32;
const SIZE = 128;

for (const indirect of [false, true]) {
  const driver = new MockDriver({ size: SIZE, indirect, eventIndex: true });
  const queue = driver.queue();
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

  Deno.bench(`32 requests, ${indirect ? "indirect" : "direct"} descriptors`, () => {
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

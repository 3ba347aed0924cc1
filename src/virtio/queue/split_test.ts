import assert from "node:assert/strict";
import { GuestMemory } from "@vmm/memory/guest_memory.ts";
import { MockDriver } from "../testing/mock_driver.ts";
import { DescriptorChain } from "./chain.ts";
import { SplitQueue, VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE } from "./split.ts";

const text = (s: string) => new TextEncoder().encode(s);
const bytes = (...values: number[]) => Uint8Array.from(values);

for (const indirect of [false, true]) {
  Deno.test(`pop() gives readable and writable buffers in order (${indirect ? "indirect" : "direct"})`, () => {
    const driver = new MockDriver({ indirect });
    const queue = driver.queue();
    const chain = new DescriptorChain();
    const { head, addresses } = driver.submit([
      { send: bytes(1, 2, 3) },
      { send: bytes(4, 5, 6, 7) },
      { receive: 2 },
      { receive: 8 },
    ]);
    assert.equal(queue.pop(chain), true);
    assert.equal(chain.head, head);
    assert.deepEqual([chain.count, chain.readableCount], [4, 2]);
    assert.deepEqual([chain.readableBytes, chain.writableBytes], [7, 10]);
    assert.deepEqual([0, 1, 2, 3].map((i) => chain.address(i)), addresses);
    assert.equal(chain.readU32(2), 0x0605_0403);
    const copy = new Uint8Array(16);
    assert.equal(chain.readBytes(1, copy), 6);
    assert.deepEqual([...copy.subarray(0, 6)], [2, 3, 4, 5, 6, 7]);
    assert.equal(chain.writeBytes(1, text("abcdefghijkl")), 9);
    assert.deepEqual([...driver.at(addresses[2], 2)], [0, 97]);
    assert.deepEqual([...driver.at(addresses[3], 8)], [...text("bcdefghi")]);
    assert.equal(queue.pop(chain), false);
    assert.equal(queue.fault, undefined);
    queue.push(head, 10);
    assert.equal(driver.complete(), undefined);
    assert.equal(queue.publish(), true);
    assert.deepEqual(driver.complete(), { head, writtenBytes: 10 });
  });
}

Deno.test("gather() covers any byte range of either part with host addresses", () => {
  const driver = new MockDriver();
  const chain = new DescriptorChain();
  const { addresses } = driver.submit([{ send: bytes(1, 2, 3, 4) }, { receive: 100 }, { receive: 50 }]);
  driver.queue().pop(chain);
  const entries = (count: number) => {
    const view = new BigUint64Array(chain.iovec.buffer, 0, 2 * count);
    return [...view].map(Number);
  };
  assert.deepEqual(entries(chain.gather(true, 90, 30)), [addresses[1] + 90, 10, addresses[2], 20]);
  assert.equal(chain.gatheredBytes, 30);
  assert.deepEqual(entries(chain.gather(true, 100, 999)), [addresses[2], 50]);
  assert.equal(chain.gatheredBytes, 50);
  assert.deepEqual(entries(chain.gather(false, 1, 2)), [addresses[0] + 1, 2]);
  assert.equal(chain.gather(true, 150, 1), 0);
});

Deno.test("DescriptorChain grows for long chains and reads across buffers", () => {
  const driver = new MockDriver({ size: 64 });
  const chain = new DescriptorChain();
  const send = Array.from({ length: 40 }, (_, i) => ({ send: bytes(i) }));
  driver.submit(send);
  assert.equal(driver.queue().pop(chain), true);
  assert.equal(chain.count, 40);
  assert.equal(chain.readU64(3), 0x0a09_0807_0605_0403);
  assert.equal(chain.readU8(40), 0);
  assert.equal(chain.gather(false, 0, 40), 40);
});

Deno.test("pop() leaves out empty buffers", () => {
  const driver = new MockDriver();
  const chain = new DescriptorChain();
  driver.submit([{ send: bytes(9) }, { receive: 0 }, { receive: 1 }]);
  assert.equal(driver.queue().pop(chain), true);
  assert.deepEqual([chain.count, chain.writableBytes], [2, 1]);
});

Deno.test("pop() splits a buffer that spans adjacent regions", () => {
  const regions = [0, 0x1000].map((gpa) => ({
    gpa,
    sizeBytes: 0x1000,
    hostAddress: BigInt(0x7f00_0000_0000 + 4 * gpa),
    buffer: new ArrayBuffer(0x1000),
  }));
  const memory = new GuestMemory(regions);
  memory.writeU64(0, 0xff0);
  memory.writeU32(8, 0x20);
  memory.writeU16(12, VIRTQ_DESC_F_WRITE);
  memory.writeU16(0x102, 1);
  const queue = SplitQueue.create(memory, {
    size: 1,
    descriptors: 0,
    driver: 0x100,
    device: 0x200,
    eventIndex: false,
    indirect: false,
    nextAvail: 0,
    nextUsed: 0,
  }) as SplitQueue;
  const chain = new DescriptorChain();
  assert.equal(queue.pop(chain), true);
  assert.deepEqual([chain.count, chain.writableBytes], [2, 0x20]);
  assert.equal(chain.gather(true, 0, 0x20), 2);
  chain.writeU32(14, 0x0403_0201);
  assert.deepEqual([memory.readU16(0xffe), memory.readU16(0x1000)], [0x0201, 0x0403]);
});

function broken(name: string, fault: RegExp, build: (driver: MockDriver) => void, indirect = false): void {
  Deno.test(`pop() stops the queue on ${name}`, () => {
    const driver = new MockDriver({ indirect });
    const queue = driver.queue();
    build(driver);
    driver.offer(0);
    assert.equal(queue.pop(new DescriptorChain()), false);
    assert.match(queue.fault?.fault ?? "", fault);
    driver.submit([{ send: bytes(1) }]);
    assert.equal(queue.pop(new DescriptorChain()), false);
    assert.equal(queue.enableNotifications(), false);
  });
}

broken("a loop", /loops/, (d) => {
  d.describe(0, d.allocate(4), 4, VIRTQ_DESC_F_NEXT, 1);
  d.describe(1, d.allocate(4), 4, VIRTQ_DESC_F_NEXT, 0);
});
broken("an index outside the table", /descriptor 16 of a table of 16/, (d) => {
  d.describe(0, d.allocate(4), 4, VIRTQ_DESC_F_NEXT, 16);
});
broken("an address outside RAM", /outside RAM/, (d) => d.describe(0, 0x2000, 4, 0));
broken("a length past RAM's end", /outside RAM/, (d) => d.describe(0, d.allocate(4), 0xffff_ffff, 0));
broken("an address above 2^53", /outside RAM/, (d) => d.describe(0, 2 ** 63, 4, 0));
broken("readable after writable", /readable buffer follows/, (d) => {
  d.describe(0, d.allocate(4), 4, VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_WRITE, 1);
  d.describe(1, d.allocate(4), 4, 0);
});
broken("an indirect table that was not negotiated", /indirect table/, (d) => {
  d.describe(0, d.allocate(16), 16, VIRTQ_DESC_F_INDIRECT);
});
broken("an indirect table of odd size", /indirect table of 17/, (d) => {
  d.describe(0, d.allocate(32), 17, VIRTQ_DESC_F_INDIRECT);
}, true);
broken("an indirect descriptor with a successor", /indirect table/, (d) => {
  d.describe(0, d.allocate(16), 16, VIRTQ_DESC_F_INDIRECT | VIRTQ_DESC_F_NEXT, 1);
}, true);
broken("an indirect table in an indirect table", /indirect table/, (d) => {
  const table = d.allocate(16);
  d.describe(0, table, 16, VIRTQ_DESC_F_INDIRECT);
  d.describe(0, table, 16, VIRTQ_DESC_F_INDIRECT, 0, table);
}, true);
broken("an available index far ahead", /available index/, (d) => d.setAvailableIndex(40));

Deno.test("create() refuses rings outside RAM, unaligned rings and odd sizes", () => {
  const memory = new MockDriver().memory;
  const layout = {
    size: 16,
    descriptors: 0x10_0000,
    driver: 0x10_1000,
    device: 0x10_2000,
    eventIndex: true,
    indirect: false,
    nextAvail: 0,
    nextUsed: 0,
  };
  const refused = (change: Partial<typeof layout>) => {
    const result = SplitQueue.create(memory, { ...layout, ...change });
    return result instanceof SplitQueue ? "" : result.fault;
  };
  assert.equal(refused({}), "");
  assert.match(refused({ descriptors: 0 }), /outside RAM/);
  assert.match(refused({ device: 0x1f_ff80 }), /outside RAM/);
  assert.match(refused({ driver: 2 ** 64 }), /outside RAM/);
  assert.match(refused({ descriptors: 0x10_0008 }), /not aligned/);
  assert.match(refused({ device: 0x10_2002 }), /not aligned/);
  assert.match(refused({ size: 12 }), /queue size/);
});

Deno.test("rewind() gives a request again", () => {
  const driver = new MockDriver();
  const queue = driver.queue();
  const chain = new DescriptorChain();
  const { head } = driver.submit([{ send: bytes(1) }]);
  queue.pop(chain);
  queue.rewind();
  assert.equal(queue.hasRequests(), true);
  assert.equal(queue.pop(chain), true);
  assert.equal(chain.head, head);
  assert.equal(queue.pop(chain), false);
});

Deno.test("publish() honours the no-interrupt flag", () => {
  const driver = new MockDriver();
  const queue = driver.queue();
  assert.equal(queue.publish(), false);
  driver.suppressInterrupts(true);
  queue.push(0, 0);
  assert.equal(queue.publish(), false);
  driver.suppressInterrupts(false);
  queue.push(0, 0);
  assert.equal(queue.publish(), true);
});

Deno.test("publish() wants an interrupt when the used event lies in the batch, across the wrap too", () => {
  const driver = new MockDriver({ eventIndex: true });
  const queue = driver.queue(0xfffe, 0xfffe);
  driver.setUsedEvent(0);
  queue.push(0, 0);
  queue.push(1, 0);
  assert.equal(queue.publish(), false);
  queue.push(2, 0);
  assert.equal(queue.publish(), true);
  queue.push(3, 0);
  assert.equal(queue.publish(), false);
  assert.equal(queue.nextUsed, 2);
});

for (const eventIndex of [false, true]) {
  Deno.test(`enableNotifications() reports requests that came meanwhile (${eventIndex ? "event" : "flag"})`, () => {
    const driver = new MockDriver({ eventIndex });
    const queue = driver.queue();
    const chain = new DescriptorChain();
    queue.disableNotifications();
    assert.equal(driver.wantsNotification(), eventIndex);
    driver.submit([{ send: bytes(1) }]);
    assert.equal(driver.wantsNotification(), false);
    assert.equal(queue.enableNotifications(), true);
    queue.pop(chain);
    assert.equal(queue.enableNotifications(), false);
    assert.equal(driver.wantsNotification(), true);
  });
}

Deno.test("SplitQueue.disabled() never has requests", () => {
  const queue = SplitQueue.disabled();
  assert.equal(queue.pop(new DescriptorChain()), false);
  assert.equal(queue.enableNotifications(), false);
  assert.equal(queue.enabled, false);
});

Deno.test("a queue goes on from saved indices", () => {
  const driver = new MockDriver();
  const chain = new DescriptorChain();
  const first = driver.queue();
  driver.submit([{ send: bytes(1) }]);
  first.pop(chain);
  first.push(chain.head, 0);
  first.publish();
  driver.submit([{ send: bytes(2) }]);
  const second = driver.queue(first.nextAvail, first.nextUsed);
  assert.equal(second.pop(chain), true);
  assert.equal(chain.readU8(0), 2);
});

Deno.test("the walker survives rings and descriptors of random bytes", () => {
  let seed = 12345;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fff_ffff;
    return seed % below;
  };
  const chain = new DescriptorChain();
  for (let round = 0; round < 60; round++) {
    const driver = new MockDriver({ size: 8, indirect: round % 2 === 0, eventIndex: round % 3 === 0 });
    const queue = driver.queue();
    for (let i = 0; i < 8; i++) {
      const address = 0x10_0000 + random(0x11_0000) - (random(8) === 0 ? 0x2_0000 : 0);
      const length = random(4) === 0 ? random(0x7fff_ffff) : 16 * random(12);
      driver.describe(i, address, length, random(8), random(10));
    }
    const junk = driver.at(driver.allocate(0x4000), 0x4000);
    for (let i = 0; i < junk.length; i += 7) junk[i] = random(256);
    for (let i = 0; i < 20; i++) {
      if (random(2) === 0) driver.offer(random(9));
      else driver.setAvailableIndex(random(0x1_0000));
      if (!queue.pop(chain)) continue;
      assert.ok(chain.count <= 1024 && chain.readableCount <= chain.count);
      for (let b = 0; b < chain.count; b++) {
        assert.notEqual(driver.memory.find(chain.address(b), chain.lengthBytes(b)), undefined);
      }
      chain.writeBytes(0, junk.subarray(0, 64));
      queue.push(chain.head, chain.writableBytes);
      queue.publish();
    }
  }
});

import assert from "node:assert/strict";
import { DescriptorChain } from "@vmm/virtio/queue/chain.ts";
import { MockDriver } from "@vmm/virtio/testing/mock_driver.ts";
import { type ControlTarget, NO_ANSWER, runControl } from "./control.ts";
import { VIRTIO_NET_ERR, VIRTIO_NET_OK } from "./spec.ts";

const MAX_PAIRS = 3;

Deno.test("runControl() answers random orders and never goes beyond what the device has", () => {
  let state = 2024;
  const next = (below: number) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
  const target: ControlTarget = {
    maxPairs: MAX_PAIRS,
    setPairs: (pairs) => assert.ok(pairs >= 1 && pairs <= MAX_PAIRS),
    setOffloads: (features) => {
      assert.ok(features >= 0 && features <= 0xffff_ffff);
      return next(2) === 0;
    },
    acknowledgeAnnounce: () => {},
  };
  const driver = new MockDriver({ size: 16 });
  const queue = driver.queue();
  const chain = new DescriptorChain();
  const seen = new Set<number>();
  for (let round = 0; round < 500; round++) {
    const order = Uint8Array.from({ length: next(14) }, (_, i) => i < 2 ? next(7) : next(256));
    const room = next(3);
    // Split anywhere: framing means nothing.
    const cut = next(order.length + 1);
    driver.submit([{ send: order.slice(0, cut) }, { send: order.slice(cut) }, { receive: room }]);
    assert.ok(queue.pop(chain));
    const answer = runControl(chain, target);
    seen.add(answer);
    assert.ok([VIRTIO_NET_OK, VIRTIO_NET_ERR, NO_ANSWER].includes(answer));
    assert.equal(answer === NO_ANSWER, room === 0);
    queue.push(chain.head, 0);
    queue.publish();
    driver.complete();
  }
  assert.deepEqual([...seen].sort(), [NO_ANSWER, VIRTIO_NET_OK, VIRTIO_NET_ERR].sort());
});

import assert from "node:assert/strict";
import { createIoapic } from "@vmm/devices/legacy/ioapic.ts";
import type { MsiRoute } from "@vmm/hypervisor/kvm/vm.ts";
import { QUEUE_WORDS, QueueWord } from "@vmm/virtio/pci/block.ts";
import { createVirtioPci } from "@vmm/virtio/pci/create.ts";
import { IrqRoutes, IrqRoutesBlock, MESSAGE_LINES, NO_LINE } from "./irq_routes.ts";
import { RingInterrupts } from "./ring_interrupts.ts";

const FIRST_GSI = 24;

/** Two rings with messages of the test's, a KVM that notes what it is told. */
function setUp() {
  const state = createVirtioPci({
    virtioId: 2,
    queueSizes: [16, 16],
    features: 1n << 32n,
    config: new Uint8Array(0),
    bar: { kind: "memory64", base: 0 },
  });
  [0, 1].forEach((ring) => state.queues[ring * QUEUE_WORDS + QueueWord.vector] = ring);
  const log: string[] = [];
  const messages: ({ addressLow: number; addressHigh: number; data: number } | undefined)[] = [];
  const kvm = { routes: [] as readonly MsiRoute[], result: 0 };
  const vm = {
    setRoutes: (routes: readonly MsiRoute[]) => {
      kvm.routes = routes;
      return kvm.result;
    },
    irqfd: (fd: number, gsi: number, assign: boolean) => {
      log.push(`${assign ? "tie" : "untie"} ${fd} ${gsi}`);
      return 0;
    },
  };
  const ioapic = createIoapic();
  const routes = new IrqRoutes(IrqRoutesBlock.create(), ioapic, vm);
  const msix = {
    message: (vector: number) => messages[vector],
    signal: (vector: number) => void log.push(`signal ${vector}`),
  };
  const relay = {
    callFds: [70, 71],
    relay: (ring: number, on: boolean) => void log.push(`${on ? "relay" : "leave"} ${ring}`),
  };
  const interrupts = new RingInterrupts(state, msix, routes, vm, relay);
  return { interrupts, routes, messages, log, kvm, ioapic };
}

const message = (data: number) => ({ addressLow: 0xfee0_0000, addressHigh: 0, data });

Deno.test("a ring's eventfd is tied to its message while that can be sent", () => {
  const { interrupts, messages, log, kvm } = setUp();
  interrupts.sync();
  assert.deepEqual(log, []);
  messages[1] = message(0x41);
  interrupts.sync();
  interrupts.sync();
  assert.deepEqual(log.splice(0), ["tie 71 24", "leave 1", "signal 1"]);
  assert.deepEqual(kvm.routes, [{ gsi: FIRST_GSI, ...message(0x41) }]);
  messages[1] = undefined;
  interrupts.sync();
  assert.deepEqual(log, ["untie 71 24", "relay 1"]);
  assert.deepEqual(kvm.routes, []);
});

Deno.test("a message that changes is followed, and the interrupt raised once so that none is lost", () => {
  const { interrupts, messages, log, kvm } = setUp();
  messages[0] = message(0x41);
  interrupts.sync();
  log.length = 0;
  messages[0] = message(0x42);
  interrupts.sync();
  assert.deepEqual(log, ["signal 0"]);
  assert.deepEqual(kvm.routes, [{ gsi: FIRST_GSI, ...message(0x42) }]);
});

Deno.test("interrupts that KVM does not take are passed on", () => {
  const { interrupts, messages, log, kvm, routes } = setUp();
  kvm.result = -12;
  messages[0] = message(0x41);
  interrupts.sync();
  assert.deepEqual(log, []);
  kvm.result = 0;
  interrupts.sync();
  kvm.result = -12;
  messages[0] = message(0x42);
  log.length = 0;
  interrupts.sync();
  assert.deepEqual(log, ["untie 70 24", "relay 0"]);
  assert.equal(routes.take(), 0);
});

Deno.test("close() gives every line back", () => {
  const { interrupts, messages, log, routes, kvm } = setUp();
  messages[0] = message(1);
  messages[1] = message(2);
  interrupts.sync();
  log.length = 0;
  interrupts.close();
  assert.deepEqual(log, ["untie 70 24", "relay 0", "untie 71 25", "relay 1"]);
  assert.deepEqual(kvm.routes, []);
  const lines = Array.from({ length: MESSAGE_LINES + 1 }, () => routes.take());
  assert.deepEqual([lines[0], lines[255], lines[256]], [0, 255, NO_LINE]);
});

Deno.test("routes of level-triggered pins and messages do not drive each other out", () => {
  const { interrupts, messages, routes, kvm, ioapic } = setUp();
  messages[0] = message(0x41);
  interrupts.sync();
  ioapic.low[9] = 0x8039; // level-triggered, unmasked, vector 0x39
  routes.update();
  assert.deepEqual(kvm.routes.map(({ gsi }) => gsi), [9, FIRST_GSI]);
  interrupts.close();
  assert.deepEqual(kvm.routes.map(({ gsi }) => gsi), [9]);
});

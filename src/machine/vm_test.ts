import assert from "node:assert/strict";
import type { GuestEvent } from "@vmm/bus/ports.ts";
import { Vm, type VmParts } from "./vm.ts";

const SLOT = 3;

/** A VM of which only what ejecting a device needs is there. */
function vmWithDevice(call: () => Promise<void>): { vm: Vm; events: GuestEvent[]; removed: unknown[] } {
  const events: GuestEvent[] = [];
  const removed: unknown[] = [];
  const placed = { fn: { segment: 0, slot: SLOT }, device: { id: "d" }, bdf: "0000:00:03.0" };
  const parts = {
    platform: { blocks: {} },
    devices: { placed: new Map([["d", placed]]), remove: (device: unknown) => removed.push(device) },
    vcpus: { call, stop: () => new Promise<void>(() => {}) },
    ioWorker: new Promise(() => {}),
    onEvent: (event: GuestEvent) => events.push(event),
  };
  return { vm: new Vm(parts as unknown as VmParts), events, removed };
}

const forgotten = () => Promise.reject(new Error("machine is undefined"));

Deno.test("ejected() takes the device out and tells of it", async () => {
  const { vm, events, removed } = vmWithDevice(() => Promise.resolve());
  await vm.ejected(0, 1 << SLOT + 1);
  assert.equal(removed.length, 0);
  await vm.ejected(0, 1 << SLOT);
  assert.equal(removed.length, 1);
  assert.deepEqual(events, [{ kind: "device-removed", id: "d", bdf: "0000:00:03.0" }]);
});

Deno.test("ejected() leaves the devices of a VM that is being dropped to shutdown()", async () => {
  for (const call of [() => Promise.resolve(), forgotten]) {
    const { vm, events, removed } = vmWithDevice(call);
    const done = vm.ejected(0, 1 << SLOT);
    void vm.shutdown();
    await done;
    assert.deepEqual([removed, events], [[], []]);
  }
});

Deno.test("ejected() reports a Worker that cannot let go", async () => {
  const { vm, events, removed } = vmWithDevice(forgotten);
  await vm.ejected(0, 1 << SLOT);
  assert.deepEqual(removed, []);
  assert.deepEqual(events.map(({ kind }) => kind), ["log"]);
});

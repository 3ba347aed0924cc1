import assert from "node:assert/strict";
import type { GuestEvent } from "@vmm/bus/ports.ts";
import { createEventBudget, EVENT_BURST } from "@vmm/sync/event_budget.ts";
import { PvPanic } from "./pvpanic.ts";

function pvpanic() {
  const events: GuestEvent[] = [];
  const device = new PvPanic(createEventBudget(), () => 0, { post: (event) => void events.push(event) });
  return { events, device };
}

Deno.test("PvPanic understands panic and crash-loaded", () => {
  const { device } = pvpanic();
  assert.equal(device.read(0), 3);
  assert.equal(device.read(1), 0);
});

Deno.test("PvPanic reports what the guest wrote, within its budget", () => {
  const { device, events } = pvpanic();
  device.write(0, 1, 1);
  assert.deepEqual(events, [{ kind: "panic", value: 1 }]);
  for (let i = 0; i < 1000; i++) device.write(0, 1, 2);
  assert.equal(events.length, EVENT_BURST);
});

import assert from "node:assert/strict";
import type { VmmEvent } from "@schemas/api/event.ts";
import { EventStream } from "./events.ts";

Deno.test("EventStream stamps events with the time since it began and tells all subscribers", () => {
  let now = 5_000;
  const stream = new EventStream(() => now);
  const seen: VmmEvent[] = [];
  const stop = stream.subscribe((event) => seen.push(event));
  now = 6_250.5;
  stream.emit("vm", "device-removed", { id: "_disk0", bdf: "0000:00:06.0" });
  stop();
  stream.emit("vm", "shutdown");
  assert.deepEqual(seen, [{
    timestamp: { secs: 1, nanos: 250_500_000 },
    source: "vm",
    event: "device-removed",
    properties: { id: "_disk0", bdf: "0000:00:06.0" },
  }]);
});

Deno.test("EventStream tells its end once, to those who are there", () => {
  const stream = new EventStream(() => 0);
  const seen: string[] = [];
  stream.subscribe(({ event }) => seen.push(event), () => seen.push("end"));
  stream.subscribe(() => {}, () => seen.push("gone"))();
  stream.end();
  stream.emit("vm", "shutdown");
  stream.end();
  assert.deepEqual(seen, ["end"]);
});

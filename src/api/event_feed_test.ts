import assert from "node:assert/strict";
import { EventStream } from "@vmm/log/events.ts";
import { eventResponse } from "./event_feed.ts";

Deno.test("eventResponse() feeds events, and forgets a reader that leaves", async () => {
  const events = new EventStream(() => 0);
  const reader = eventResponse(events).body!.getReader();
  const next = async () => new TextDecoder().decode((await reader.read()).value);
  assert.equal(await next(), ": events\n\n");
  events.emit("vm", "booted");
  assert.equal(
    await next(),
    'event: vm/booted\ndata: {"timestamp":{"secs":0,"nanos":0},"source":"vm","event":"booted","properties":null}\n\n',
  );
  await reader.cancel();
  events.emit("vm", "shutdown");
});

Deno.test("eventResponse() cuts a reader off that reads nothing", async () => {
  const events = new EventStream(() => 0);
  const reader = eventResponse(events).body!.getReader();
  for (let i = 0; i < 5_000; i++) events.emit("vm", "booted");
  let count = 0;
  let last: Uint8Array | undefined;
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    count++;
    last = value;
  }
  assert.ok(count > 100 && count < 2_000, String(count));
  assert.equal(new TextDecoder().decode(last), ": cut off, too many events behind\n\n");
});

Deno.test("eventResponse() ends with the stream, after the last event", async () => {
  const events = new EventStream(() => 0);
  const { body } = eventResponse(events);
  events.emit("vmm", "shutdown");
  events.end();
  assert.match(await new Response(body).text(), /event: vmm\/shutdown\ndata: .*\n\n$/);
});

import assert from "node:assert/strict";
import { close, O, open } from "@ffi/libc/fd.ts";
import { read } from "@ffi/libc/io.ts";
import { socketPair } from "@ffi/libc/socket.ts";
import type { VmmEvent } from "@schemas/api/event.ts";
import { EventSink } from "./event_sink.ts";

const event = (name: string): VmmEvent => ({
  timestamp: { secs: 0, nanos: 88812 },
  source: "vmm",
  event: name,
  properties: null,
});
const STARTING =
  '{\n  "timestamp": {\n    "secs": 0,\n    "nanos": 88812\n  },\n  "source": "vmm",\n  "event": "starting",\n  "properties": null\n}\n\n';

function readText(fd: number): string {
  const buffer = new Uint8Array(1 << 20);
  const count = read(fd, buffer);
  return new TextDecoder().decode(buffer.subarray(0, Math.max(count, 0)));
}

Deno.test("EventSink writes indented JSON and an empty line into a truncated file", () => {
  const path = Deno.makeTempFileSync();
  Deno.writeTextFileSync(path, "old contents, longer than nothing");
  EventSink.openPath(path).write(event("starting"));
  assert.equal(Deno.readTextFileSync(path), STARTING);
  Deno.removeSync(path);
});

Deno.test("EventSink serves a fifo whose reader comes late, leaves and comes back", () => {
  const directory = Deno.makeTempDirSync();
  const path = `${directory}/fifo`;
  new Deno.Command("mkfifo", { args: [path] }).outputSync();
  const sink = EventSink.openPath(path);
  sink.write(event("starting"));
  const first = open(path, O.RDONLY | O.NONBLOCK);
  assert.equal(readText(first), STARTING);
  close(first);
  sink.write(event("shutdown"));
  const second = open(path, O.RDONLY | O.NONBLOCK);
  assert.match(readText(second), /"shutdown"/);
  assert.equal(sink.dropped, 0);
  close(second);
  Deno.removeSync(directory, { recursive: true });
});

Deno.test("EventSink drops events nobody reads and never leaves one half written", () => {
  const [ours, theirs] = socketPair();
  const sink = EventSink.useDescriptor(ours);
  for (let i = 0; i < 5_000; i++) sink.write(event(`number ${i}`));
  assert.ok(sink.dropped > 0);
  let text = "";
  for (let part = readText(theirs); part !== ""; part = readText(theirs)) text += part;
  sink.write(event("late"));
  for (let part = readText(theirs); part !== ""; part = readText(theirs)) text += part;
  const events = text.split("\n\n").filter((item) => item !== "").map((item) => JSON.parse(item).event);
  assert.ok(events.length >= 2);
  assert.equal(events.at(-1), "late");
  close(ours);
  close(theirs);
});

Deno.test("EventSink survives a reader that closed its end and refuses a closed descriptor", () => {
  const [ours, theirs] = socketPair();
  const sink = EventSink.useDescriptor(ours);
  close(theirs);
  sink.write(event("starting"));
  assert.equal(sink.dropped, 1);
  close(ours);
  assert.throws(() => EventSink.useDescriptor(1_000_000), /os error 9/);
});

import assert from "node:assert/strict";
import { EventStreamError } from "@vmm/client/event_decoder.ts";
import { EventStream } from "@vmm/log/events.ts";
import { MAX_BEHIND } from "@vmm/api/event_feed.ts";
import { EventFeed } from "./event_feed.ts";

function makeFeed(signal?: AbortSignal) {
  const stream = new EventStream(() => 0);
  let ends = 0;
  const feed = new EventFeed(() => ends++);
  feed.follow(stream, signal);
  return { stream, feed, ends: () => ends };
}

Deno.test("EventFeed keeps events from before the first next(), in order, and ends after them", async () => {
  const { stream, feed, ends } = makeFeed();
  stream.emit("vm", "booting");
  stream.emit("vm", "booted");
  feed.end();
  stream.emit("vm", "shutdown");
  const names: string[] = [];
  for await (const { event } of feed) names.push(event);
  assert.deepEqual(names, ["booting", "booted"]);
  assert.equal(ends(), 1);
});

Deno.test("EventFeed hands events to readers that wait, one each", async () => {
  const { stream, feed } = makeFeed();
  const waiting = [feed.next(), feed.next(), feed.next()];
  stream.emit("vm", "paused");
  stream.emit("vm", "resumed");
  feed.end();
  const results = await Promise.all(waiting);
  assert.deepEqual(results.map(({ value }) => value?.event), ["paused", "resumed", undefined]);
});

Deno.test("EventFeed ends when its loop is left or its signal aborts", async () => {
  const left = makeFeed();
  left.stream.emit("vm", "booting");
  for await (const _ of left.feed) break;
  assert.equal(left.ends(), 1);
  assert.deepEqual(await left.feed.next(), { done: true, value: undefined });

  const abort = new AbortController();
  const aborted = makeFeed(abort.signal);
  const next = aborted.feed.next();
  abort.abort();
  assert.deepEqual(await next, { done: true, value: undefined });
  assert.equal(aborted.ends(), 1);
});

Deno.test("EventFeed gives up a reader that does not read", async () => {
  const { stream, feed, ends } = makeFeed();
  for (let count = 0; count < MAX_BEHIND; count++) stream.emit("vm", "paused");
  assert.equal(ends(), 0);
  stream.emit("vm", "paused");
  assert.equal(ends(), 1);
  await assert.rejects(feed.next(), EventStreamError);
  assert.deepEqual(await feed.next(), { done: true, value: undefined });
});

import assert from "node:assert/strict";
import { ApiChannel } from "./channel.ts";
import { EMPTY_REPLY } from "./command.ts";

const ping = { operation: "vmm.ping", body: undefined } as const;

Deno.test("ApiChannel carries commands in order, each with the sender of its own response", async () => {
  const channel = new ApiChannel();
  const first = channel.send(ping);
  const second = channel.send({ operation: "vm.boot", body: undefined });
  const reader = channel.reader();
  const seen = [await reader.read(), await reader.read()].map(({ value }) => value);
  assert.deepEqual(seen.map((request) => request!.kind === "command" && request!.command.operation), [
    "vmm.ping",
    "vm.boot",
  ]);
  const [a, b] = seen;
  if (a?.kind !== "command" || b?.kind !== "command") throw new Error("not commands");
  b.sender.fail(new Error("no"));
  a.sender.send(EMPTY_REPLY);
  a.sender.fail(new Error("answered already"));
  assert.equal(await first, EMPTY_REPLY);
  await assert.rejects(second, /no/);
});

Deno.test("ApiChannel makes producers wait when it is full", async () => {
  const channel = new ApiChannel(2);
  const replies = [1, 2, 3].map(() => channel.send(ping));
  const reader = channel.reader();
  const got: string[] = [];
  for (let i = 0; i < 3; i++) {
    const { value } = await reader.read();
    if (value?.kind !== "command") throw new Error("not a command");
    got.push(value.command.operation);
    value.sender.send(EMPTY_REPLY);
  }
  await Promise.all(replies);
  assert.equal(got.length, 3);
});

Deno.test("ApiChannel refuses commands once closed, still delivers what it holds, and has one consumer", async () => {
  const channel = new ApiChannel(1);
  channel.post({ kind: "exit", reason: "one" });
  const waiting = channel.send(ping);
  channel.close();
  channel.close();
  channel.post({ kind: "exit", reason: "lost" });
  await assert.rejects(waiting, /shutting down/);
  const reader = channel.reader();
  assert.deepEqual((await reader.read()).value, { kind: "exit", reason: "one" });
  assert.equal((await reader.read()).done, true);
  assert.throws(() => channel.reader(), TypeError);
});

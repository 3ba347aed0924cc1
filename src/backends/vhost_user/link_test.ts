import assert from "node:assert/strict";
import { SocketMessage } from "@ffi/libc/socket.ts";
import { drainEvent } from "@ffi/libc/io.ts";
import { BackendRequest, encodeMessage, u64Payload, VhostUser } from "./protocol.ts";
import { LinkRig } from "./testing/link_rig.ts";

const MQ = 1n;
const REPLY_ACK = 1n << 3n;
const REQUESTS = 1n << 5n;
const CONFIG = 1n << 9n;
const INFLIGHT = 1n << 12n;

const START = [
  "SET_FEATURES",
  "SET_MEM_TABLE",
  "SET_VRING_NUM 0",
  "SET_VRING_BASE 0",
  "SET_VRING_ADDR 0",
  "SET_VRING_CALL 0",
  "SET_VRING_KICK 0",
];

Deno.test("start() gives memory and rings to the back-end, and interrupts come back", () => {
  using rig = new LinkRig();
  rig.link.start(rig.device);
  rig.settle();
  assert.deepEqual(rig.backend.asked, START);
  assert.equal(
    new DataView(rig.backend.payloads.get("SET_FEATURES")!.buffer).getBigUint64(0, true),
    1n << 32n | 3n,
  );
  assert.equal(rig.interrupts, 1); // once at the start, in case one was missed
  rig.call();
  rig.settle();
  assert.equal(rig.interrupts, 2);
});

Deno.test("with protocol features rings are enabled and stopped rings tell where they are", () => {
  using rig = new LinkRig({ protocolFeatures: MQ | REPLY_ACK | INFLIGHT, base: 77 });
  rig.link.start(rig.device);
  rig.settle();
  const withInflight = [...START.slice(0, 2), "GET_INFLIGHT_FD", "SET_INFLIGHT_FD", ...START.slice(2)];
  assert.deepEqual(rig.backend.asked, [...withInflight, "SET_VRING_ENABLE 0"]);
  assert.equal(rig.backend.payloads.get("SET_FEATURES")![3], 0x40); // the protocol's own bit
});

Deno.test("stop() waits for a limited time, then lives without the back-end", () => {
  using rig = new LinkRig();
  rig.link.start(rig.device);
  rig.settle();
  rig.backend.close(); // nobody answers GET_VRING_BASE
  assert.deepEqual(rig.link.stop(), []);
  assert.match(rig.log[0], /"_d": .*waiting for it to come back/);
  assert.deepEqual(rig.timers, [100]);
});

Deno.test("a back-end that comes back gets the rings where the driver sees them", () => {
  using rig = new LinkRig({ protocolFeatures: REPLY_ACK | INFLIGHT });
  rig.link.start(rig.device);
  rig.settle();
  rig.replace();
  rig.settle();
  assert.deepEqual(rig.backend.asked, [
    "SET_OWNER",
    "GET_FEATURES",
    "GET_PROTOCOL_FEATURES",
    "SET_PROTOCOL_FEATURES",
    ...START.slice(0, 2),
    "SET_INFLIGHT_FD", // the same region as before
    ...START.slice(2),
    "SET_VRING_ENABLE 0",
  ]);
  assert.deepEqual([...rig.backend.payloads.get("SET_VRING_BASE 0")!], [0, 0, 0, 0, 5, 0, 0, 0]);
  assert.equal(rig.interrupts, 2);
  assert.match(rig.log.at(-1)!, /is back/);
});

Deno.test("a back-end that comes back with less is refused, and the next one looked for", () => {
  using rig = new LinkRig({ acceptedFeatures: 1n << 32n | 8n });
  rig.link.start(rig.device);
  rig.settle();
  rig.replace({ features: 1n << 32n });
  rig.settle();
  assert.match(rig.log.at(-1)!, /fewer features/);
  rig.replace();
  rig.settle();
  assert.match(rig.log.at(-1)!, /is back/);
});

Deno.test("close() ends the search for a back-end", () => {
  using rig = new LinkRig();
  rig.backend.close();
  rig.settleFrontEnd();
  assert.equal(rig.timers.length, 1);
  rig.link.stop();
  rig.link.close();
  assert.deepEqual([rig.timers, rig.watches.size], [[], 0]);
});

Deno.test("where we listen, a lost back-end connects again", () => {
  using rig = new LinkRig({ server: true });
  rig.link.start(rig.device);
  rig.settle();
  rig.backend.close();
  rig.settleFrontEnd();
  assert.deepEqual(rig.timers, []);
});

Deno.test("an answer that does not come in time ends the connection", () => {
  using rig = new LinkRig({ protocolFeatures: REPLY_ACK, instead: () => "silence" });
  rig.link.start(rig.device);
  rig.settle();
  assert.deepEqual(rig.timers, [10_000]);
  rig.elapse();
  assert.match(rig.log[0], /No answer to SET_FEATURES within 10 s/);
});

Deno.test("something nobody asked for ends the connection", () => {
  using rig = new LinkRig();
  new SocketMessage(64).send(
    rig.backend.fd,
    encodeMessage(VhostUser.GET_FEATURES, u64Payload(0), { reply: true }),
  );
  rig.settle();
  assert.match(rig.log[0], /nobody asked for/);
});

Deno.test("a changed configuration reaches the driver, with the front-end's part of it", () => {
  const theirs = Uint8Array.of(1, 2, 3, 4);
  using rig = new LinkRig({
    protocolFeatures: REPLY_ACK | CONFIG | REQUESTS,
    config: theirs,
    wishesConfig: 4,
    guestConfig: Uint8Array.of(1, 2, 9, 4),
    overrides: [{ offset: 2, bytes: Uint8Array.of(9) }],
  });
  rig.link.start(rig.device);
  rig.settle();
  const [channel] = rig.backend.descriptors.get("SET_BACKEND_REQ_FD")!;
  const message = new SocketMessage(64);
  const change = encodeMessage(BackendRequest.CONFIG_CHANGE_MSG, new Uint8Array(0), { needReply: true });
  message.send(channel, change);
  rig.settle();
  assert.equal(rig.configChanges, 0); // nothing differs
  assert.equal(message.receive(channel, 20), 20);
  theirs[0] = 5;
  message.send(channel, change);
  rig.settle();
  assert.deepEqual([rig.configChanges, [...rig.config]], [1, [5, 2, 9, 4]]);
  message.send(channel, encodeMessage(99, new Uint8Array(3), { needReply: true }));
  rig.settle();
  assert.equal(message.receive(channel, 20), 20); // the acknowledgement of the second change
  assert.equal(message.receive(channel, 20), 20);
  assert.notEqual(message.data[12], 0);
});

Deno.test("configWritten() tells the back-end, and again the one that replaces it", () => {
  using rig = new LinkRig({
    protocolFeatures: REPLY_ACK | CONFIG,
    config: new Uint8Array(4),
    wishesConfig: "all",
    guestConfig: new Uint8Array(4),
  });
  let done = 0;
  rig.config[2] = 7;
  rig.link.configWritten(() => done++);
  assert.equal(done, 0);
  rig.settle();
  assert.equal(done, 1);
  assert.deepEqual([...rig.backend.payloads.get("SET_CONFIG")!], [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7]);
  rig.replace();
  rig.link.configWritten(() => done++); // nobody to tell: at once
  assert.equal(done, 2);
  rig.settle();
  assert.equal(rig.backend.payloads.get("SET_CONFIG")![12], 7);
});

Deno.test("limit() turns rings off and on", () => {
  using rig = new LinkRig({ protocolFeatures: REPLY_ACK });
  rig.link.limit(0);
  rig.link.start(rig.device);
  rig.settle();
  assert.equal(rig.backend.payloads.get("SET_VRING_ENABLE 0")![4], 0);
  for (let i = 0; i < 1000; i++) rig.link.limit(i % 2); // told once each time there is time for it
  rig.link.limit(1);
  rig.settle();
  assert.equal(rig.backend.payloads.get("SET_VRING_ENABLE 0")![4], 1);
  assert.ok(rig.backend.asked.length < 20);
});

Deno.test("kick() reaches the descriptor the back-end has", () => {
  using rig = new LinkRig();
  rig.link.start(rig.device);
  rig.settle();
  const [kickFd] = rig.backend.descriptors.get("SET_VRING_KICK")!;
  drainEvent(kickFd);
  rig.link.kick(0);
  assert.equal(drainEvent(kickFd), true);
});

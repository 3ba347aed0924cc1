import assert from "node:assert/strict";
import { close } from "@ffi/libc/fd.ts";
import { socketPair } from "@ffi/libc/socket.ts";
import { BackendFault, VhostUserConnection } from "./connection.ts";
import { type Agreement, negotiate, type Wishes } from "./negotiation.ts";
import { encodeMessage, u64Payload, VhostUser } from "./protocol.ts";
import { ScriptRunner } from "./script.ts";
import { FakeBackend, type FakeOptions } from "./testing/fake_backend.ts";

const ALL = (1n << 64n) - 1n;
const WISHES: Wishes = {
  features: 1n << 32n | 1n << 30n | 0xffn,
  protocolFeatures: ALL,
  queueCount: 2,
  defaultQueueCount: 2,
  config: "none",
};

/** Negotiates with a fake, both in this thread. @throws BackendFault */
function meet(options: FakeOptions, wishes: Wishes = WISHES): { agreement: Agreement; asked: string[] } {
  const [near, far] = socketPair();
  const backend = new FakeBackend(far, options);
  const connection = new VhostUserConnection(near);
  try {
    const runner = new ScriptRunner(
      connection,
      negotiate(connection, wishes),
      () => () => {},
      1000,
      () => {},
    );
    let result = runner.start();
    while (result === undefined && backend.serve()) result = runner.readable();
    assert.ok(result !== undefined, "the negotiation came to an end");
    return { agreement: result.value, asked: backend.asked };
  } finally {
    connection.dispose();
    close(near);
    backend.close();
  }
}

Deno.test("negotiate() takes what both sides have", () => {
  const { agreement, asked } = meet({ features: 1n << 32n | 0x10fn, protocolFeatures: 1n | 1n << 3n });
  assert.equal(agreement.features, 1n << 32n | 0xfn);
  assert.equal(agreement.transportFeatures, 1n << 30n);
  assert.equal(agreement.protocolFeatures, 9n);
  assert.deepEqual(asked, [
    "SET_OWNER",
    "GET_FEATURES",
    "GET_PROTOCOL_FEATURES",
    "SET_PROTOCOL_FEATURES",
    "GET_QUEUE_NUM",
  ]);
});

Deno.test("negotiate() does without protocol features", () => {
  const { agreement, asked } = meet({ features: 1n << 32n });
  assert.deepEqual([agreement.transportFeatures, agreement.protocolFeatures], [0n, 0n]);
  assert.deepEqual(asked, ["SET_OWNER", "GET_FEATURES"]);
});

Deno.test("negotiate() refuses a back-end that cannot serve the device", () => {
  assert.throws(() => meet({ features: 1n }), { name: "BackendFault", message: /virtio 1.0/ });
  assert.throws(() => meet({ protocolFeatures: 1n, queueCount: 1 }), /serves 1 queues.* 2$/);
  assert.throws(
    () => meet({ protocolFeatures: 1n << 9n, config: new Uint8Array(59) }, { ...WISHES, config: 60 }),
    /no device configuration of 60 bytes/,
  );
});

Deno.test("negotiate() finds the length of a configuration nobody knows", () => {
  for (const length of [0, 1, 36, 255, 256]) {
    const config = new Uint8Array(length).fill(7);
    const { agreement } = meet({ protocolFeatures: 1n << 9n, config }, { ...WISHES, config: "all" });
    assert.deepEqual(agreement.config, config);
  }
  assert.deepEqual(meet({ protocolFeatures: 1n }, { ...WISHES, config: 60 }).agreement.config.length, 0);
});

Deno.test("answers of the wrong kind, size or request are faults", () => {
  const wrong: [bytes: Uint8Array, message: RegExp][] = [
    [encodeMessage(VhostUser.GET_FEATURES, u64Payload(0)), /answered GET_FEATURES with GET_FEATURES/],
    [encodeMessage(VhostUser.SET_OWNER, u64Payload(0), { reply: true }), /with SET_OWNER/],
    [encodeMessage(VhostUser.GET_FEATURES, new Uint8Array(4), { reply: true }), /with 4 bytes/],
    [encodeMessage(VhostUser.GET_FEATURES, new Uint8Array(16), { reply: true }), /with 16 bytes/],
    [Uint8Array.of(1, 0, 0, 0, 6, 0, 0, 0, 8, 0, 0, 0), /version 2/],
    [Uint8Array.of(1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 1), /16777216 bytes/],
  ];
  for (const [bytes, message] of wrong) {
    const instead = (name: string) => name === "GET_FEATURES" ? bytes : undefined;
    assert.throws(() => meet({ instead }), { name: "BackendFault", message });
  }
});

Deno.test("a refusal of a request is a fault where requests are acknowledged", () => {
  const refusal = encodeMessage(VhostUser.SET_OWNER, u64Payload(1), { reply: true });
  const [near, far] = socketPair();
  const backend = new FakeBackend(far, { instead: () => refusal });
  const connection = new VhostUserConnection(near);
  connection.acknowledges = true;
  connection.send({ request: VhostUser.SET_OWNER, payload: new Uint8Array(0) });
  backend.serve();
  assert.throws(() => connection.receive(), /refused SET_OWNER/);
  close(near);
  backend.close();
});

Deno.test("whatever a back-end answers, negotiation ends with an agreement or a fault", () => {
  let seed = 12345;
  const random = (below: number) => (seed = (seed * 1103515245 + 12345) & 0x7fff_ffff) % below;
  for (let round = 0; round < 30; round++) {
    const options: FakeOptions = {
      features: 1n << 32n,
      protocolFeatures: BigInt(random(1 << 16)),
      config: new Uint8Array(random(257)),
      instead: (_name, usual) => {
        if (random(8) !== 0 || usual === undefined) return undefined;
        const bytes = usual.slice(0, random(3) === 0 ? random(usual.byteLength) + 1 : usual.byteLength);
        for (let n = random(4); n > 0; n--) bytes[random(bytes.byteLength)] = random(256);
        return bytes;
      },
    };
    try {
      meet(options, { ...WISHES, config: random(2) === 0 ? "all" : 60 });
    } catch (error) {
      const cutShort = (error as Error).message === "the negotiation came to an end";
      assert.ok(error instanceof BackendFault || cutShort, String((error as Error).stack));
    }
  }
});

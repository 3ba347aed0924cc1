import assert from "node:assert/strict";
import { listenUnix } from "@ffi/libc/socket.ts";
import { eventually } from "@tests/framework/deadline.ts";
import { HttpConnection } from "@tests/framework/http_client.ts";
import { serveUnix } from "./deno_serve.ts";
import type { FrontDoor } from "./front_door.ts";
import { OwnSocket } from "./http1/own_connection.ts";
import { Http1Server } from "./http1/server.ts";
import { rehearseRequests } from "./rehearsal.ts";
import type { Router } from "./router.ts";

/** How many descriptors of this process are sockets. */
function sockets(): number {
  return [...Deno.readDirSync("/proc/self/fd")].filter(({ name }) => {
    try {
      return Deno.readLinkSync(`/proc/self/fd/${name}`).startsWith("socket:");
    } catch {
      return false;
    }
  }).length;
}

const DOORS: Record<string, (path: string, router: Router) => FrontDoor> = {
  "the default front door": (path, router) => serveUnix(path, router, () => undefined),
  "the drop-in front door": (path, router) => {
    const server = new Http1Server(listenUnix(path), router);
    const running = server.run();
    return {
      connectToSelf: () => server.connectToSelf(),
      close: async () => {
        await server.close();
        await running;
      },
    };
  },
};

for (const [name, open] of Object.entries(DOORS)) {
  Deno.test(`${name} answers a rehearsal beside its clients`, async () => {
    const directory = await Deno.makeTempDir();
    const path = `${directory}/s`;
    const seen = { own: 0, clients: 0 };
    const door = open(path, ({ path }, _descriptors, isOwn) => {
      seen[isOwn === true ? "own" : "clients"]++;
      return Promise.resolve({ status: 200, body: JSON.stringify(path.repeat(isOwn ? 100 : 1)) });
    });
    const before = sockets();
    const rehearsal = rehearseRequests(door, () => false);
    // More clients than the drop-in dialect takes together with connections of our own.
    const clients = await Promise.all(Array.from({ length: 10 }, () => HttpConnection.open(path)));
    for (const client of clients) {
      using it = client;
      assert.equal((await it.request("GET", "/api/v1/vmm.ping")).body, '"/api/v1/vmm.ping"');
    }
    await rehearsal;
    assert.ok(seen.own > 1_000, `${seen.own} requests of our own`);
    assert.equal(seen.clients, 10);
    await eventually("all connections to be closed", () => sockets() === before);
    await door.close();
    await Deno.remove(directory, { recursive: true });
  });

  Deno.test(`${name} ends a rehearsal when it is over`, async () => {
    const directory = await Deno.makeTempDir();
    let requests = 0;
    const door = open(`${directory}/s`, () => {
      requests++;
      return Promise.resolve({ status: 200, body: "{}" });
    });
    await rehearseRequests(door, () => requests > 0);
    assert.ok(requests > 0 && requests < 100, `${requests} requests`);
    await door.close();
    await Deno.remove(directory, { recursive: true });
  });
  Deno.test(`${name} connects to itself, and to nobody who took its path`, async () => {
    const directory = await Deno.makeTempDir();
    const path = `${directory}/s`;
    const door = open(path, () => Promise.resolve({ status: 204 }));
    door.connectToSelf!().close();
    await Deno.remove(path);
    assert.throws(() => door.connectToSelf!(), Deno.errors.NotFound);
    const other = Deno.listen({ transport: "unix", path });
    assert.throws(() => door.connectToSelf!(), /was replaced/);
    other.close();
    await door.close();
    await Deno.remove(directory, { recursive: true });
  });
}

Deno.test("a door without a file connects to nobody", () => {
  assert.throws(() => new OwnSocket("\0abstract", "").connect(), /no file/);
  assert.throws(() => new OwnSocket("/nowhere/at/all", "").connect(), /no file/);
});

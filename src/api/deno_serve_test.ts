import assert from "node:assert/strict";
import { eventually } from "@tests/framework/deadline.ts";
import { HttpConnection } from "@tests/framework/http_client.ts";
import { log } from "@vmm/log/logger.ts";
import type { HttpRequest } from "./http_message.ts";
import { serveUnix } from "./deno_serve.ts";

/** Number of `-v`. */
const DEBUG = 2;

Deno.test("serveUnix() passes requests on as they are and answers in ordinary HTTP", async () => {
  const directory = await Deno.makeTempDir();
  const seen: HttpRequest[] = [];
  const refused: string[] = [];
  const door = serveUnix(
    `${directory}/s`,
    (request) => {
      seen.push(request);
      return Promise.resolve(
        request.method === "PUT" ? { status: 204 } : { status: 404, body: '["Not Found"]' },
      );
    },
    (_request, path) => path === "/metrics" ? new Response("m") : undefined,
    (reason) => refused.push(reason),
  );
  {
    using client = await HttpConnection.open(`${directory}/s`);
    const missing = await client.request("GET", "/api/v1/x?y=z");
    assert.equal(missing.statusLine, "HTTP/1.1 404 Not Found");
    assert.equal(missing.header("content-type"), "application/json");
    assert.equal(missing.body, '["Not Found"]');
    const done = await client.request("PUT", "/api/v1/vm.create", "{}");
    assert.equal(done.status, 204);
    assert.equal((await client.request("GET", "/metrics")).body, "m");
    const large = await client.request("PUT", "/api/v1/vm.create", "x".repeat((4 << 20) + 1));
    assert.equal(large.status, 413);
  }
  assert.deepEqual(seen.map(({ method, path, body }) => [method, path, body.length]), [
    ["GET", "/api/v1/x?y=z", 0],
    ["PUT", "/api/v1/vm.create", 2],
  ]);
  assert.deepEqual(refused, ["too_long"]);
  await door.close();
  await Deno.remove(directory, { recursive: true });
});

Deno.test("serveUnix() takes a client who leaves in the middle of its body for no error of ours", async () => {
  const directory = await Deno.makeTempDir();
  const logFile = `${directory}/log`;
  log.configure({ verbosity: DEBUG, file: logFile });
  const door = serveUnix(`${directory}/s`, () => Promise.resolve({ status: 204 }), () => undefined);
  const client = await Deno.connect({ transport: "unix", path: `${directory}/s` });
  await client.write(new TextEncoder().encode("PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"));
  client.close();
  const logged = () => Deno.readTextFile(logFile);
  await eventually("the line", async () => (await logged()).includes("body"));
  assert.match(await logged(), /DEBUG:.* HTTP request body: /);
  await door.close();
  await Deno.remove(directory, { recursive: true });
});

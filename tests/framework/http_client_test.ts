import assert from "node:assert/strict";
import { join } from "node:path";
import { ApiClient, encodeRequest, HttpConnection } from "./http_client.ts";

/** Answers each request with the next of the given texts, written in two pieces; records the requests. */
async function withServer(
  answers: string[],
  body: (path: string, requests: string[]) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir();
  const path = join(directory, "s");
  const listener = Deno.listen({ transport: "unix", path });
  const requests: string[] = [];
  const serving = (async () => {
    for await (const connection of listener) {
      const buffer = new Uint8Array(65536);
      for (;;) {
        const count = await connection.read(buffer);
        if (count === null) break;
        requests.push(new TextDecoder().decode(buffer.subarray(0, count)));
        const answer = new TextEncoder().encode(answers.shift()!);
        await connection.write(answer.subarray(0, 7));
        await connection.write(answer.subarray(7));
        if (answers.length === 0) break;
      }
      connection.close();
    }
  })();
  try {
    await body(path, requests);
  } finally {
    listener.close();
    await serving;
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("HttpConnection keeps header spelling, lengths and the raw bytes", async () => {
  const first = 'HTTP/1.1 200 \r\nServer: Test API\r\ncontent-Length: 7\r\n\r\n{"a":1}';
  const answers = [first, "HTTP/1.1 204 \r\nServer: Test API\r\n\r\n", "HTTP/1.1 404 Not Found\r\n\r\n"];
  await withServer(answers, async (path, requests) => {
    using connection = await HttpConnection.open(path);
    const info = await connection.request("GET", "/x");
    assert.equal(info.statusLine, "HTTP/1.1 200 ");
    assert.deepEqual(info.headers, [["Server", "Test API"], ["content-Length", "7"]]);
    assert.deepEqual(info.json(), { a: 1 });
    assert.equal(info.raw, first);
    assert.equal((await connection.request("PUT", "/y", { b: 2 })).status, 204);
    assert.equal((await connection.request("PUT", "/z", "text")).status, 404);
    assert.ok(await connection.ended());
    assert.match(requests[1], /^PUT \/y HTTP\/1\.1\r\n[\s\S]*Content-Length: 7\r\n\r\n{"b":2}$/);
  });
});

Deno.test("HttpConnection reads chunked bodies and reports a cut-off response", async () => {
  const chunked =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
  await withServer([chunked, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"], async (path) => {
    using connection = await HttpConnection.open(path);
    assert.equal((await connection.request("GET", "/")).body, "abc0123456789");
    await assert.rejects(connection.request("GET", "/"), /Connection closed in the middle/);
  });
});

Deno.test("ApiClient adds the API's prefix and says what a failed request answered", async () => {
  await withServer(
    ["HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\nnope"],
    async (path, requests) => {
      await assert.rejects(
        new ApiClient(path).mustPut("vm.boot"),
        /vm\.boot answered HTTP\/1\.1 500 .*: nope/,
      );
      assert.match(requests[0], /^PUT \/api\/v1\/vm\.boot HTTP/);
    },
  );
});

Deno.test("encodeRequest() counts bytes, not characters", () => {
  assert.match(new TextDecoder().decode(encodeRequest("PUT", "/", "é")), /Content-Length: 2\r\n/);
});

import assert from "node:assert/strict";
import { type ParseResult, RequestParser } from "./request_parser.ts";

const bytes = (text: string) => Uint8Array.from(text, (character) => character.charCodeAt(0));
const text = (body: Uint8Array) => new TextDecoder().decode(body);

/** Everything that comes out when `parts` go in one after another. */
function parse(...parts: string[]): ParseResult[] {
  const parser = new RequestParser();
  const results: ParseResult[] = [];
  for (const part of parts) {
    parser.push(bytes(part));
    for (let result = parser.next(); result !== undefined; result = parser.next()) results.push(result);
  }
  return results;
}

const summary = (result: ParseResult) =>
  result.kind === "request"
    ? `${result.method} ${result.path} ${text(result.body)}`
    : result.kind === "fault"
    ? `${result.fatal ? "fatal " : ""}${result.reason}`
    : `continue ${result.version}`;

Deno.test("RequestParser gives the same requests however the bytes are split", () => {
  const stream = "GET /a HTTP/1.1\r\nHost: x\r\n\r\nPUT http://h/b HTTP/1.0\r\nContent-Length: 3\r\n\r\nxyz" +
    "DELETE /c HTTP/1.1\r\n\r\n";
  const whole = parse(stream).map(summary);
  assert.deepEqual(whole, ["GET /a ", "PUT /b xyz", "DELETE /c "]);
  for (let cut = 1; cut < stream.length; cut++) {
    assert.deepEqual(parse(stream.slice(0, cut), stream.slice(cut)).map(summary), whole);
  }
  assert.deepEqual(parse(...stream).map(summary), whole);
});

Deno.test("RequestParser asks for the body when it is expected, once", () => {
  const head = "PUT / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
  assert.deepEqual(parse(head, "ok", "GET /next HTTP/1.1\r\n\r\n").map(summary), [
    "continue HTTP/1.0",
    "PUT / ok",
    "GET /next ",
  ]);
});

Deno.test("RequestParser goes on after a bad request line and drops what came with it", () => {
  const results = parse("BAD / HTTP/1.1\r\n\r\nGET /lost HTTP/1.1\r\n\r\n", "GET /kept HTTP/1.1\r\n\r\n");
  assert.deepEqual(results.map(summary), [
    "Invalid HTTP Method: Unsupported HTTP method.",
    "GET /kept ",
  ]);
});

Deno.test("RequestParser bounds lines and bodies", () => {
  const longest = `GET /${"a".repeat(1_008)} HTTP/1.1`;
  assert.equal(longest.length, 1_022);
  assert.equal(parse(`${longest}\r\n\r\n`)[0].kind, "request");
  assert.deepEqual(parse(`${longest}b\r\n\r\n`).map(summary), ["fatal Invalid request."]);
  assert.deepEqual(parse("G".repeat(1_023)), []);
  assert.equal(parse("G".repeat(1_024))[0].kind, "fault");
  assert.match(
    summary(parse(`GET / HTTP/1.1\r\nA: ${"b".repeat(2_000)}`)[0]),
    /^fatal .*Invalid content length/,
  );
  const size = (count: number) => parse(`PUT / HTTP/1.1\r\nContent-Length: ${count}\r\n\r\n`);
  assert.deepEqual(size(4 << 20), []);
  assert.match(summary(size((4 << 20) + 1)[0]), /^fatal Request payload with size 4194305/);
});

Deno.test("RequestParser survives random bytes, in bounded memory", () => {
  let state = 12_345;
  const random = (limit: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % limit;
  };
  const words = [
    "GET ",
    "PUT ",
    "/api/v1/vmm.ping",
    " HTTP/1.1",
    "\r\n",
    "\r",
    "\n",
    "\r\n\r\n",
    "Content-Length: ",
  ];
  words.push(
    "5",
    "4194304",
    ":",
    "Expect: 100-continue",
    "Accept-Encoding: *;q=0",
    "\xff",
    "\0",
    " ",
    "x".repeat(999),
  );
  for (let round = 0; round < 300; round++) {
    const parser = new RequestParser();
    for (let part = 0; part < 20; part++) {
      let piece = "";
      for (let i = random(6); i >= 0; i--) piece += words[random(words.length)];
      parser.push(bytes(piece));
      for (let guard = 0;; guard++) {
        const result = parser.next();
        if (result === undefined) break;
        assert.ok(guard < 10_000);
        if (result.kind === "fault") assert.ok(result.reason.length > 0);
        if (result.kind === "request") assert.match(result.method, /^(GET|PUT|PATCH|DELETE)$/);
      }
    }
  }
});

import assert from "node:assert/strict";
import { messagesOf } from "@vmm/errors/vmm_error.ts";
import { type HttpResponse, ResponseReader } from "./response.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

/** The response of `text`, in one piece; undefined when it is not complete. */
const whole = (text: string): HttpResponse | undefined => new ResponseReader().push(bytes(text));

function refused(text: string): string[] {
  const reader = new ResponseReader();
  try {
    reader.push(bytes(text)) ?? reader.end();
  } catch (error) {
    return messagesOf(error);
  }
  return [];
}

Deno.test("ResponseReader reads the bare status line and the ordinary one", () => {
  for (const line of ["HTTP/1.1 200 ", "HTTP/1.1 200", "HTTP/1.1 200 OK", "HTTP/1.0 200 Very well"]) {
    assert.deepEqual(whole(`${line}\r\nContent-Length: 2\r\n\r\n{}`), { status: 200, body: "{}" }, line);
  }
  assert.deepEqual(whole("HTTP/1.1 204 \r\nServer: x\r\n\r\n"), { status: 204, body: undefined });
  assert.deepEqual(whole("HTTP/1.1 200 \r\n\r\n"), { status: 200, body: undefined });
  assert.deepEqual(whole("HTTP/1.1 500 \r\ncontent-length:3\r\n\r\nabc"), { status: 500, body: "abc" });
});

Deno.test("ResponseReader takes a response in any pieces", () => {
  const text = "HTTP/1.1 100 \r\nServer: x\r\n\r\nHTTP/1.1 200 \r\nContent-Length: 4\r\n\r\né\r\n";
  const all = bytes(text);
  for (let cut = 1; cut < all.length; cut++) {
    const reader = new ResponseReader();
    assert.equal(reader.push(all.subarray(0, cut)), undefined, String(cut));
    assert.deepEqual(reader.push(all.subarray(cut)), { status: 200, body: "é\r\n" }, String(cut));
  }
  const reader = new ResponseReader();
  const results = Array.from(all, (byte) => reader.push(Uint8Array.of(byte)));
  assert.deepEqual(results.at(-1), { status: 200, body: "é\r\n" });
});

Deno.test("ResponseReader joins chunks", () => {
  const head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
  assert.deepEqual(whole(`${head}3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n`), {
    status: 200,
    body: "abc0123456789",
  });
  assert.equal(whole(`${head}3\r\nab`), undefined);
  assert.deepEqual(refused(`${head}zz\r\n`), ["Error parsing HTTP chunk size"]);
});

Deno.test("end() takes what is there", () => {
  const cut = new ResponseReader();
  assert.equal(cut.push(bytes("HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\n{}")), undefined);
  assert.deepEqual(cut.end(), { status: 200, body: "{}", cutShort: true });
  const closing = new ResponseReader();
  assert.equal(closing.push(bytes("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc")), undefined);
  assert.deepEqual(closing.end(), { status: 200, body: "abc" });
});

Deno.test("ResponseReader refuses what is no response", () => {
  const missing = ["HTTP output is missing protocol statement"];
  assert.deepEqual(refused(""), missing);
  assert.deepEqual(refused("garbage\r\n\r\n"), missing);
  assert.deepEqual(refused("HTTP/1.1 200"), missing);
  assert.deepEqual(refused("x".repeat(70_000)), missing);
  assert.deepEqual(refused("HTTP/1.1 abc\r\n\r\n"), [
    "Error parsing HTTP status code",
    "invalid digit found in string",
  ]);
  assert.deepEqual(refused("HTTP/1.1 500 \r\nContent-Length: x\r\n\r\nhello"), [
    "Error parsing HTTP Content-Length field",
    "invalid digit found in string",
  ]);
});

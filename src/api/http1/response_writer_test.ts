import assert from "node:assert/strict";
import { continueBytes, faultBytes, responseBytes } from "./response_writer.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

Deno.test("responseBytes() writes the bare status line and the headers in order", () => {
  assert.equal(
    text(responseBytes({ status: 200, body: "{}" })),
    "HTTP/1.1 200 \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n" +
      "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
  );
  assert.equal(
    text(responseBytes({ status: 204 })),
    "HTTP/1.1 204 \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n\r\n",
  );
  assert.match(text(responseBytes({ status: 200, body: "" })), /Content-Length: 0\r\n\r\n$/);
});

Deno.test("responseBytes() counts bytes, not characters", () => {
  assert.match(text(responseBytes({ status: 400, body: '["é😀"]' })), /Content-Length: 10\r\n\r\n\["é😀"\]$/);
});

Deno.test("faultBytes() and continueBytes() speak for the HTTP layer", () => {
  assert.equal(
    text(faultBytes("Invalid request.")),
    "HTTP/1.1 400 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\nContent-Type: application/json\r\n" +
      'Content-Length: 81\r\n\r\n{ "error": "Invalid request.\nAll previous unanswered requests will be dropped." }',
  );
  assert.equal(
    text(continueBytes("HTTP/1.0")),
    "HTTP/1.0 100 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n",
  );
});

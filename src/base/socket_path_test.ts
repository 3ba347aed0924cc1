import assert from "node:assert/strict";
import { MAX_SOCKET_PATH_BYTES, socketPathFault } from "./socket_path.ts";

Deno.test("socketPathFault() counts bytes", () => {
  assert.equal(socketPathFault("x".repeat(MAX_SOCKET_PATH_BYTES)), undefined);
  assert.equal(socketPathFault("ä".repeat(53)), undefined);
  assert.match(socketPathFault("ä".repeat(54))!, /SUN_LEN/);
  assert.match(socketPathFault("")!, /empty/);
});

/**
 * Random bytes to the drop-in front door. `FUZZ_MS` is the time to spend, a fifth of a second unless set.
 */
import assert from "node:assert/strict";
import { close } from "@ffi/libc/fd.ts";
import { connectUnix, listenUnix, SocketMessage } from "@ffi/libc/socket.ts";
import { Http1Server } from "@vmm/api/http1/server.ts";
import { InProcessTarget } from "@tests/conformance/api_target.ts";
import { DIALECT_CASES } from "@tests/conformance/dialect_cases.ts";
import { converse, latin1 } from "@tests/conformance/golden_dialect.ts";
import { Random } from "@tests/differential/bodies.ts";

const FUZZ_MS = Number(Deno.env.get("FUZZ_MS") ?? 200);
const SEED = Number(Deno.env.get("FUZZ_SEED") ?? 1);
const PING = "GET /api/v1/vmm.ping HTTP/1.1\r\n\r\n";

/** Requests from the table, damaged: bytes changed, cut out, doubled, and cut into parts. */
function damaged(random: Random): string[] {
  const cases = Object.values(DIALECT_CASES);
  let text = random.pick(cases).join("") + random.pick(cases).join("");
  for (let i = random.below(6); i > 0; i--) {
    const at = random.below(text.length + 1);
    const length = random.below(20);
    const kind = random.below(3);
    const byte = String.fromCharCode(random.below(256));
    if (kind === 0) text = text.slice(0, at) + byte + text.slice(at + 1);
    else if (kind === 1) text = text.slice(0, at) + text.slice(at + length);
    else text = text.slice(0, at) + text.slice(Math.max(0, at - length), at) + text.slice(at);
  }
  const cut = random.below(text.length + 1);
  return [text.slice(0, cut), text.slice(cut)];
}

Deno.test(`the drop-in front door survives damaged requests (FUZZ_SEED=${SEED})`, async () => {
  const random = new Random(SEED);
  const directory = Deno.makeTempDirSync();
  const path = `${directory}/s`;
  await using target = new InProcessTarget();
  const server = new Http1Server(listenUnix(path), target.router);
  const running = server.run();
  const message = new SocketMessage(1 << 16);
  let rounds = 0;
  for (const end = performance.now() + FUZZ_MS; performance.now() < end; rounds++) {
    const fd = connectUnix(path);
    for (const part of damaged(random)) {
      message.send(fd, latin1(part));
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    const count = message.receive(fd);
    if (count > 0) {
      assert.match(
        new TextDecoder().decode(message.data.subarray(0, count)),
        /^HTTP\/1\.[01] (100|200|204|400|404|500|503)/,
      );
    }
    close(fd);
    if (rounds % 10 !== 0) continue;
    const [answer] = await converse(path, [PING], ["HTTP/1.1 200"]);
    assert.match(answer, /^HTTP\/1\.1 (200|503)/);
  }
  assert.ok(rounds > 0);
  await server.close();
  await running;
  await Deno.remove(directory, { recursive: true });
});

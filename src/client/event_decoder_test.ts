import assert from "node:assert/strict";
import { EventDecoder, EventStreamError } from "./event_decoder.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const HEAD = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
const CHUNKED = `${HEAD}transfer-encoding: chunked\r\n\r\n`;
const chunk = (text: string) => `${bytes(text).length.toString(16)}\r\n${text}\r\n`;

Deno.test("EventDecoder gives the data of complete events", () => {
  const decoder = new EventDecoder();
  assert.deepEqual(
    decoder.push(bytes(`${HEAD}\r\n: comment\n\nevent: vm/booted\ndata: {"a":1}\n\ndata: x`)),
    ['{"a":1}'],
  );
  assert.equal(decoder.status, 200);
  assert.deepEqual(decoder.push(bytes("\r\ndata:y\n\n")), ["x\ny"]);
});

Deno.test("EventDecoder takes chunks cut anywhere, and UTF-8", () => {
  const all = bytes(CHUNKED + chunk("data: é1\n") + chunk("\ndata: 2\n\n") + "0\r\n\r\n");
  for (let cut = 0; cut <= all.length; cut++) {
    const decoder = new EventDecoder();
    const events = [...decoder.push(all.subarray(0, cut)), ...decoder.push(all.subarray(cut))];
    assert.deepEqual(events, ["é1", "2"], String(cut));
    assert.equal(decoder.ended, true);
  }
});

Deno.test("EventDecoder tells an end from a break, and when events were left out", () => {
  const after = (text: string) => {
    const decoder = new EventDecoder();
    decoder.push(bytes(text));
    return { ended: decoder.ended, unfinished: decoder.unfinished, cutOff: decoder.cutOff };
  };
  const event = chunk("data: 1\n\n");
  assert.deepEqual(after(`${CHUNKED}${event}`), { ended: false, unfinished: true, cutOff: false });
  assert.deepEqual(after(`${CHUNKED}${event}0\r\n\r\n`), { ended: true, unfinished: false, cutOff: false });
  assert.deepEqual(after(`${HEAD}\r\ndata: 1\n\n`), { ended: false, unfinished: false, cutOff: false });
  const cut = chunk(": cut off, too many events behind\n\n");
  assert.deepEqual(after(`${CHUNKED}${cut}0\r\n\r\n`), { ended: true, unfinished: false, cutOff: true });
});

Deno.test("EventDecoder refuses what is no event stream", () => {
  const refused = (text: string) => {
    assert.throws(() => new EventDecoder().push(bytes(text)), EventStreamError, text);
  };
  refused("garbage\r\n\r\n");
  refused('HTTP/1.1 404 \r\nContent-Type: application/json\r\n\r\n["Not Found"]');
  refused("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n");
  refused(`${CHUNKED}zz\r\n`);
  refused(`${HEAD}\r\ndata: ${"x".repeat(1 << 21)}`);
});

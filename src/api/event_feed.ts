/**
 * The event stream as server-sent events: one `message` per event, its JSON on one line.
 *
 * L6, main isolate. Source: HTML standard §9.2 "Server-sent events".
 */
import type { VmmEvent } from "@schemas/api/event.ts";
import type { EventStream } from "@vmm/log/events.ts";

/** Events a reader may be behind; one that does not read is cut off rather than remembered for. */
export const MAX_BEHIND = 1_024;
/** Last line for a reader that is cut off: a comment, which says nothing to those who do not know it. */
export const CUT_OFF_LINE = ": cut off, too many events behind";
const encoder = new TextEncoder();

/** One event as text of the feed. */
function feedText(event: VmmEvent): string {
  return `event: ${event.source}/${event.event}\ndata: ${JSON.stringify(event)}\n\n`;
}

/** A response that goes on until the client leaves or the stream ends. */
export function eventResponse(events: EventStream): Response {
  let stop = () => {};
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      // A comment first, so that the client sees the headers before anything happens.
      controller.enqueue(encoder.encode(": events\n\n"));
      stop = events.subscribe((event) => {
        if ((controller.desiredSize ?? 0) <= 0) {
          stop();
          controller.enqueue(encoder.encode(`${CUT_OFF_LINE}\n\n`));
          controller.close();
        } else {
          controller.enqueue(encoder.encode(feedText(event)));
        }
      }, () => controller.close());
    },
    cancel: () => stop(),
  }, new CountQueuingStrategy({ highWaterMark: MAX_BEHIND }));
  return new Response(body, {
    headers: { "content-type": "text/event-stream", "cache-control": "no-store" },
  });
}

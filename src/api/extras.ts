/**
 * Paths of our own beside the original's: metrics, the OpenAPI document, the event stream.
 *
 * L6, main isolate; served by the default front door only, so that the drop-in dialect has no path the original lacks.
 */
import type { EventStream } from "@vmm/log/events.ts";
import type { Extras } from "./deno_serve.ts";
import { eventResponse } from "./event_feed.ts";

/** What the extras show. */
export interface ExtrasParts {
  /** The text of the metrics, now. */
  readonly metrics: () => string;
  readonly events: EventStream;
}

const EVENTS_PATH = "/api/v1/events";
const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** Makes the handler. */
export function makeExtras({ metrics, events }: ExtrasParts): Extras {
  const documents: Record<string, () => Response | Promise<Response>> = {
    "/metrics": () => new Response(metrics(), { headers: { "content-type": METRICS_TYPE } }),
    "/api/v1/openapi.json": async () => {
      const { openApiDocument } = await import("@schemas/openapi.ts");
      return Response.json(openApiDocument());
    },
  };
  return ({ method }, target) => {
    if (method !== "GET" && method !== "HEAD") return undefined;
    // Scrapers may be told to send parameters; there is nothing to choose here.
    const query = target.indexOf("?");
    const path = query < 0 ? target : target.slice(0, query);
    // The server leaves out the body of an answer to HEAD.
    if (Object.hasOwn(documents, path)) return documents[path]();
    return method === "GET" && path === EVENTS_PATH ? eventResponse(events) : undefined;
  };
}

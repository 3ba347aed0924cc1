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

const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** Makes the handler. */
export function makeExtras({ metrics, events }: ExtrasParts): Extras {
  const paths: Record<string, () => Response | Promise<Response>> = {
    "/metrics": () => new Response(metrics(), { headers: { "content-type": METRICS_TYPE } }),
    "/api/v1/openapi.json": async () => {
      const { openApiDocument } = await import("@schemas/openapi.ts");
      return Response.json(openApiDocument());
    },
    "/api/v1/events": () => eventResponse(events),
  };
  return (request, path) => {
    if (request.method !== "GET" || !Object.hasOwn(paths, path)) return undefined;
    return paths[path]();
  };
}

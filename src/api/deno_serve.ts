/**
 * The default front door: an ordinary HTTP server on the UNIX socket, any number of connections, with the extras.
 *
 * L6, main isolate. Clients that need the original's exact bytes or pass descriptors use the drop-in dialect (`http1/`).
 */
import type { RefusalReason } from "@vmm/log/counters.ts";
import { log } from "@vmm/log/logger.ts";
import type { FrontDoor } from "./front_door.ts";
import { OwnSocket } from "./http1/own_connection.ts";
import { type HttpRequest, type HttpResponse, JSON_CONTENT, MAX_BODY_BYTES } from "./http_message.ts";
import { messageList, type Router } from "./router.ts";

/** Answers paths beside the original's; undefined: not one of them. */
export type Extras = (request: Request, path: string) => Response | Promise<Response> | undefined;

const OK = 200;
const NO_CONTENT = 204;
const NO_BODY = new Uint8Array();
/**
 * Nothing but the type: Deno answers a 200 of a text with this one header on a short way; with any other, it keeps each
 * response for a finalizer, which the garbage collector pays for.
 */
const JSON_HEADERS = { headers: { "content-type": JSON_CONTENT } };

/** Path and query of a request's URL, as sent. */
function pathOf(url: string): string {
  const slash = url.indexOf("/", url.indexOf("://") + 3);
  return slash < 0 ? "/" : url.slice(slash);
}

/** Why there is no body, with the answer; nobody reads that of a client who left. */
const BODY_FAULTS = {
  "too long": messageList(413, [`Request payload is larger than the limit of ${MAX_BODY_BYTES} bytes`]),
  "client left": messageList(400, ["Bad Request"]),
};
type BodyFault = keyof typeof BODY_FAULTS;

/** The whole body. */
async function readBody(request: Request): Promise<Uint8Array | BodyFault> {
  try {
    return await readParts(request);
  } catch (error) {
    log.debug(`HTTP request body: ${error instanceof Error ? error.message : String(error)}`);
    return "client left";
  }
}

async function readParts(request: Request): Promise<Uint8Array | BodyFault> {
  if (request.body === null) return NO_BODY;
  if (Number(request.headers.get("content-length") ?? 0) > MAX_BODY_BYTES) return "too long";
  const parts: Uint8Array[] = [];
  let lengthBytes = 0;
  for await (const part of request.body) {
    lengthBytes += part.length;
    if (lengthBytes > MAX_BODY_BYTES) return "too long";
    parts.push(part);
  }
  if (parts.length === 1) return parts[0];
  const whole = new Uint8Array(lengthBytes);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function toResponse({ status, body, contentType }: HttpResponse): Response {
  if (status === NO_CONTENT) return new Response(null, { status });
  if (status === OK && contentType === undefined) return new Response(body ?? "", JSON_HEADERS);
  return new Response(body ?? "", { status, headers: { "content-type": contentType ?? JSON_CONTENT } });
}

/**
 * Serves `router` on the UNIX socket at `path`, which must not exist. @throws Error when it cannot listen
 *
 * @param countRefusal told of what the router never sees, but for bytes that are no HTTP: Deno answers those itself
 */
export function serveUnix(
  path: string,
  router: Router,
  extras: Extras,
  countRefusal: (reason: RefusalReason) => void = () => {},
): FrontDoor {
  /** Requests with a host nobody else knows are our own. */
  const ownOrigin = `http://${crypto.randomUUID()}`;
  const server = Deno.serve({
    path,
    onListen: () => {},
    onError: (error) => {
      log.error(`HTTP server: ${error instanceof Error ? error.message : String(error)}`);
      return toResponse(messageList(500, ["Internal error"]));
    },
  }, async (request) => {
    const { url, method } = request;
    const target = pathOf(url);
    const extra = extras(request, target);
    if (extra !== undefined) return await extra;
    // Deno gives no body of a GET; asking for it, and waiting, would cost those who poll.
    const body = method === "GET" ? NO_BODY : await readBody(request);
    if (typeof body === "string") {
      if (body === "too long") countRefusal("too_long");
      return toResponse(BODY_FAULTS[body]);
    }
    const message: HttpRequest = { method, path: target, body };
    return toResponse(await router(message, undefined, url.startsWith(ownOrigin)));
  });
  const own = new OwnSocket(path, ownOrigin);
  return { close: () => server.shutdown(), connectToSelf: () => own.connect() };
}

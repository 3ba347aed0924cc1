/**
 * The default front door: an ordinary HTTP server on the UNIX socket, any number of connections, with the extras.
 *
 * L6, main isolate. Clients that need the original's exact bytes or pass descriptors use the drop-in dialect (`http1/`).
 */
import type { RefusalReason } from "@vmm/log/counters.ts";
import { log } from "@vmm/log/logger.ts";
import type { FrontDoor } from "./front_door.ts";
import { type OwnConnection, OwnSocket } from "./http1/own_connection.ts";
import { type HttpRequest, type HttpResponse, JSON_CONTENT, MAX_BODY_BYTES } from "./http_message.ts";
import { messageList, type Router } from "./router.ts";

/** Answers paths beside the original's; undefined: not one of them. */
export type Extras = (request: Request, path: string) => Response | Promise<Response> | undefined;

const OK = 200;
const NO_CONTENT = 204;
const NO_BODY = new Uint8Array();
/** Pause before listening again, for whoever holds the descriptors to give some back. */
const LISTEN_PAUSE_MS = 100;
/** Ended servers whose connections are kept. Each may have none: one descriptor is enough to listen, not to accept. */
const MAX_ENDED = 16;
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

/** What answers one request. */
type Answer = (request: Request) => Promise<Response>;

/** Listens on a path, and again when the host had no descriptor for a client: that ends a server of Deno. */
class UnixDoor implements FrontDoor {
  #server: Deno.HttpServer<Deno.UnixAddr> | undefined;
  #own: OwnSocket | undefined;
  /** They accept nobody any more; the connections they have go on. */
  readonly #ended: Deno.HttpServer<Deno.UnixAddr>[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closing = false;

  /** @param origin what stands before the path in requests of our own @throws Error when it cannot listen */
  constructor(
    private readonly path: string,
    private readonly origin: string,
    private readonly answer: Answer,
  ) {
    this.#listen();
  }

  #listen(): void {
    const server = Deno.serve({
      path: this.path,
      onListen: () => {},
      onError: (error) => {
        log.error(`HTTP server: ${error instanceof Error ? error.message : String(error)}`);
        return toResponse(messageList(500, ["Internal error"]));
      },
    }, this.answer);
    this.#server = server;
    this.#own = new OwnSocket(this.path, this.origin);
    server.finished.catch((error) => {
      this.#ended.push(server);
      if (this.#ended.length > MAX_ENDED) void this.#ended.shift()!.shutdown();
      this.#listenSoon(error);
    });
  }

  #listenSoon(error: unknown): void {
    this.#server = undefined;
    if (this.#closing) return;
    log.limited("WARN", "api-accept", `Cannot accept API connections: ${(error as Error).message}`);
    this.#timer = setTimeout(() => {
      try {
        this.#listen();
      } catch (error) {
        this.#listenSoon(error);
      }
    }, LISTEN_PAUSE_MS);
  }

  connectToSelf(): OwnConnection {
    if (this.#server === undefined) throw new Error("The API socket does not listen");
    return this.#own!.connect();
  }

  async close(): Promise<void> {
    this.#closing = true;
    clearTimeout(this.#timer);
    await Promise.all([...this.#ended, this.#server].map((server) => server?.shutdown()));
  }
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
  return new UnixDoor(path, ownOrigin, async (request) => {
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
}

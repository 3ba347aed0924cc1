/**
 * From an HTTP request to an answer: the one place that knows paths, methods and statuses.
 *
 * L6, main isolate. Does no I/O: front doors carry the bytes. Source: spec/rest-api.md §1.2, §2.
 */
import { RequestCounters } from "@vmm/log/counters.ts";
import { log } from "@vmm/log/logger.ts";
import type { BodyResult, OperationWithBody } from "./body_reader.ts";
import type { SendCommand } from "./channel.ts";
import type { ApiCommand, OperationBodies } from "./command.ts";
import type { HttpRequest, HttpResponse } from "./http_message.ts";
import { OperationError } from "./operation_error.ts";
import type { PassedDescriptors } from "./passed_descriptors.ts";
import { type Route, ROUTE_OF_PATH } from "./routes.ts";

/** What reads bodies; loaded with the first one. */
export interface BodyReader {
  readBody<N extends OperationWithBody>(operation: N, text: Uint8Array): BodyResult<N>;
  descriptorsFit<N extends OperationWithBody>(operation: N, body: OperationBodies[N], count: number): boolean;
}

/** What a router is made with. */
export interface RouterParts {
  readonly send: SendCommand;
  readonly bodyReader: () => Promise<BodyReader>;
  readonly counters: RequestCounters;
}

/** Answers a request. Never rejects. Descriptors nobody kept are closed when it has answered. Own requests are not counted. */
export type Router = (
  request: HttpRequest,
  descriptors?: PassedDescriptors,
  isOwn?: boolean,
) => Promise<HttpResponse>;

const MS_PER_SECOND = 1_000;
/** Name under which requests to unknown paths are counted. */
export const UNKNOWN_ENDPOINT = "unknown";

/** A JSON list of messages. */
export function messageList(status: number, messages: readonly string[]): HttpResponse {
  return { status, body: JSON.stringify(messages) };
}

const NOT_FOUND = messageList(404, ["Not Found"]);
const BAD_REQUEST = messageList(400, ["Bad Request"]);
const SILENT_BAD_REQUEST: HttpResponse = { status: 400, body: "" };

/** The answer to a request that the endpoint cannot take, whatever the state; undefined if it can. */
function misuse(route: Route, { method, body }: HttpRequest): HttpResponse | undefined {
  if (method !== route.method) {
    const known = method === "GET" || method === "PUT";
    return known || !route.silentOnOtherMethods ? BAD_REQUEST : SILENT_BAD_REQUEST;
  }
  if (route.body === "forbidden" && body.length > 0) return BAD_REQUEST;
  if (route.body === "required" && body.length === 0) {
    return route.silentOnMissingBody ? SILENT_BAD_REQUEST : BAD_REQUEST;
  }
  return undefined;
}

/** Makes a router. */
export function makeRouter({ send, bodyReader, counters }: RouterParts): Router {
  let reader: BodyReader | undefined;
  /** Counts as the real one does, for nobody. */
  const ownCounters = new RequestCounters();

  async function answer(
    route: Route,
    request: HttpRequest,
    descriptors?: PassedDescriptors,
  ): Promise<HttpResponse> {
    const { operation } = route;
    let body: OperationBodies[typeof operation];
    if (route.body === "required") {
      reader ??= await bodyReader();
      const name = operation as OperationWithBody;
      const result = reader.readBody(name, request.body);
      if (!result.ok) return messageList(400, ["Failed to deserialize JSON", result.message]);
      body = result.body;
      if (!reader.descriptorsFit(name, result.body, descriptors?.count ?? 0)) return BAD_REQUEST;
    }
    try {
      const reply = await send({ operation, body, descriptors } as ApiCommand);
      if (reply.kind === "json") return { status: 200, body: reply.text };
      return route.emptyStatus === 204 ? { status: 204 } : { status: route.emptyStatus, body: "" };
    } catch (error) {
      const failed = error instanceof OperationError ? error : new OperationError(operation, error);
      return messageList(failed.status, failed.chain());
    }
  }

  return async (request, descriptors, isOwn = false) => {
    const started = performance.now();
    const route = ROUTE_OF_PATH.get(request.path);
    let response: HttpResponse;
    if (route === undefined) {
      response = NOT_FOUND;
    } else {
      try {
        response = misuse(route, request) ?? await answer(route, request, descriptors);
      } catch (error) {
        log.error(`${route.operation}: ${error instanceof Error ? error.stack : error}`);
        response = messageList(500, ["Internal error"]);
      }
    }
    descriptors?.release();
    const seconds = (performance.now() - started) / MS_PER_SECOND;
    (isOwn ? ownCounters : counters).record(route?.operation ?? UNKNOWN_ENDPOINT, response.status, seconds);
    return response;
  };
}

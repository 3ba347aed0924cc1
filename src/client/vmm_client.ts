/**
 * A typed client of the REST API over its UNIX socket.
 *
 * L6. Uses node: built-ins only, and `ffi/` when descriptors are passed. One connection per request, so requests do not wait
 * for each other. Works with the original's server too, apart from `events()`. Source: spec/rest-api.md §2.
 */
import type { VmmEvent } from "@schemas/api/event.ts";
import { abortable } from "@vmm/base/abortable.ts";
import { writeBody } from "@vmm/remote/body.ts";
import { openSocket, RemoteConnection } from "@vmm/remote/connection.ts";
import { ApiError, messagesIn } from "./api_error.ts";
import { AnswerError, readObject } from "./answer_error.ts";
import { EventDecoder, EventStreamError } from "./event_decoder.ts";
import { type RequestOptions, VmmOperations } from "./vmm_operations.ts";

/**
 * A client of the VMM that listens on one UNIX socket. Keeps nothing open between requests. Of more than ten at once the
 * original, and Nephos under its name, refuse those beyond the tenth with status 503.
 */
export class VmmClient extends VmmOperations {
  /** Connects to nothing yet. @param socketPath what the VMM was given as `--api-socket` */
  constructor(readonly socketPath: string) {
    super();
  }

  /**
   * Sends one request; returns the answer's body, undefined when it has none. `endpoint` as `vm.info`; `body` may hold `bigint`.
   * @throws ApiError for an error status, AnswerError or ResponseError for an answer that makes no sense, a system error with
   * `code` when nobody listens, the reason of an aborted `signal`
   */
  override async request(
    method: "GET" | "PUT",
    endpoint: string,
    body?: unknown,
    { fds = [], signal }: RequestOptions = {},
  ): Promise<string | undefined> {
    signal?.throwIfAborted();
    const connection = await RemoteConnection.open(this.socketPath);
    try {
      const bytes = body === undefined ? undefined : new TextEncoder().encode(writeBody(body));
      const path = `/api/v1/${endpoint}`;
      const response = await abortable(connection.exchange({ method, path, body: bytes, fds }), signal);
      if (response.cutShort) {
        throw new AnswerError("The VMM closed the connection in the middle of its answer");
      }
      if (response.status < 200 || response.status > 299) {
        const text = response.body ?? "";
        throw new ApiError(response.status, endpoint, messagesIn(text), text);
      }
      return response.body || undefined;
    } finally {
      connection.close();
    }
  }

  /**
   * What happens in the VMM and its VM, until `signal` aborts or the VMM ends. The stream begins when the VMM has taken the
   * request that the first `next()` sends. Leaving the loop closes the stream.
   * Nephos only. @throws EventStreamError when the server has no event stream, goes away without an end of it (a VMM that was
   * killed), or has cut this reader off because it was more than 1,024 events behind
   */
  override async *events({ signal }: { readonly signal?: AbortSignal } = {}): AsyncGenerator<VmmEvent, void> {
    signal?.throwIfAborted();
    const socket = await openSocket(this.socketPath);
    const stop = () => void socket.destroy();
    signal?.addEventListener("abort", stop, { once: true });
    if (signal?.aborted) stop();
    const decoder = new EventDecoder();
    try {
      socket.write("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
      for await (const chunk of socket) {
        for (const data of decoder.push(chunk)) yield readObject(data) as unknown as VmmEvent;
        if (decoder.cutOff) throw new EventStreamError("The reader was cut off: too many events behind");
        if (decoder.ended) return;
      }
      if (decoder.unfinished && !signal?.aborted) throw gone(decoder);
    } catch (error) {
      if (signal?.aborted) return;
      // An error of the socket: the VMM went away with something of ours unread.
      throw (error as { code?: unknown }).code === undefined ? error : gone(decoder, error);
    } finally {
      signal?.removeEventListener("abort", stop);
      socket.destroy();
    }
  }
}

/** The error of a stream that broke. */
function gone({ status }: EventDecoder, cause?: unknown): EventStreamError {
  const message = status === 0
    ? "The VMM closed the connection without an answer"
    : "The VMM went away in the middle of its event stream";
  return new EventStreamError(message, cause === undefined ? {} : { cause });
}

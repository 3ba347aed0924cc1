/**
 * A typed client of the REST API over its UNIX socket.
 *
 * L6. Uses node: built-ins only, and `ffi/` when descriptors are passed. One connection per request, so requests do not wait
 * for each other. Works with the original's server too, apart from `events()`. Source: spec/rest-api.md §2.
 */
import { connect } from "node:net";
import type { VmmEvent } from "@schemas/api/event.ts";
import { writeBody } from "@vmm/remote/body.ts";
import { RemoteConnection } from "@vmm/remote/connection.ts";
import { ApiError, messagesIn } from "./api_error.ts";
import { EventDecoder } from "./event_decoder.ts";
import { type RequestOptions, VmmOperations } from "./vmm_operations.ts";

/** A client of the VMM that listens on one UNIX socket. Keeps nothing open between requests. */
export class VmmClient extends VmmOperations {
  /** @param socketPath what the VMM was given as `--api-socket` */
  constructor(readonly socketPath: string) {
    super();
  }

  /**
   * Sends one request; returns the answer's body, undefined when it has none. `endpoint` as `vm.info`; `body` may hold `bigint`.
   * @throws ApiError for an error status, a system error with `code` when nobody listens
   */
  override async request(
    method: "GET" | "PUT",
    endpoint: string,
    body?: unknown,
    { fds = [] }: RequestOptions = {},
  ): Promise<string | undefined> {
    const connection = await RemoteConnection.open(this.socketPath);
    try {
      const bytes = body === undefined ? undefined : new TextEncoder().encode(writeBody(body));
      const path = `/api/v1/${endpoint}`;
      const response = await connection.exchange({ method, path, body: bytes, fds });
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
   * What happens in the VMM and its VM, from now on, until `signal` aborts or the VMM ends. Leaving the loop closes the stream.
   * Nephos only. @throws EventStreamError when the server has no event stream
   */
  override async *events({ signal }: { readonly signal?: AbortSignal } = {}): AsyncGenerator<VmmEvent, void> {
    signal?.throwIfAborted();
    const socket = connect({ path: this.socketPath });
    const stop = () => void socket.destroy();
    signal?.addEventListener("abort", stop, { once: true });
    try {
      socket.write("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
      const decoder = new EventDecoder();
      for await (const chunk of socket) {
        for (const data of decoder.push(chunk)) yield JSON.parse(data);
        if (decoder.ended) return;
      }
    } catch (error) {
      if (!signal?.aborted) throw error;
    } finally {
      signal?.removeEventListener("abort", stop);
      socket.destroy();
    }
  }
}

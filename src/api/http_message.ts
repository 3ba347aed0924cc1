/**
 * Requests and answers as the router sees them, whatever carried them.
 *
 * L6, main isolate, types and constants only.
 */

/** A complete request. */
export interface HttpRequest {
  readonly method: string;
  /** Path with its query, without scheme and host. */
  readonly path: string;
  /** Empty when there is no body. */
  readonly body: Uint8Array;
}

/** An answer. Contents are JSON unless `contentType` says otherwise. */
export interface HttpResponse {
  readonly status: number;
  /** Absent: no contents (and no content headers with 204). */
  readonly body?: string;
  readonly contentType?: string;
}

/** Content type of every answer of the API. */
export const JSON_CONTENT = "application/json";
/** Bodies above this are refused, in bytes. */
export const MAX_BODY_BYTES = 4 << 20;

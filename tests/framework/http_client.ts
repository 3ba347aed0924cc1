/**
 * A small HTTP/1.1 client over a UNIX socket that shows responses as they were on the wire.
 *
 * Test framework. Written for tests that look at status lines and header spelling; no pipelining, no redirects.
 *
 * @module
 */

/** A response, raw and taken apart. */
export interface HttpResponse {
  status: number;
  /** The first line, without its line end. */
  statusLine: string;
  /** Names as spelled by the server, in order. */
  headers: [name: string, value: string][];
  /** Header value by name in any case; undefined if it is not there. */
  header(name: string): string | undefined;
  body: string;
  /** The body parsed as JSON. */
  json<T = unknown>(): T;
  /** All bytes of status line, headers and body, as text. */
  raw: string;
}

/** One kept-alive connection. */
export class HttpConnection implements Disposable {
  #buffer = new Uint8Array(0);

  private constructor(readonly connection: Deno.UnixConn) {}

  static async open(socketPath: string): Promise<HttpConnection> {
    return new HttpConnection(await Deno.connect({ transport: "unix", path: socketPath }));
  }

  /** Sends a request and reads its response. `body` that is not a string is sent as JSON. */
  async request(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<HttpResponse> {
    await this.send(encodeRequest(method, path, body, headers));
    return await this.receive(method === "HEAD");
  }

  /** Sends bytes as they are. */
  async send(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length;) done += await this.connection.write(bytes.subarray(done));
  }

  /** Reads one response. @throws Error if the connection ends before it is complete */
  async receive(withoutBody = false): Promise<HttpResponse> {
    const head = await this.#take(await this.#find("\r\n\r\n"));
    const lines = head.trimEnd().split("\r\n");
    const statusLine = lines.shift()!;
    const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(statusLine)?.[1]);
    if (Number.isNaN(status)) throw new Error(`Not an HTTP status line: "${statusLine}"`);
    const headers = lines.map((line): [string, string] => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon), line.slice(colon + 1).trim()];
    });
    const header = (name: string) => headers.find(([key]) => key.toLowerCase() === name.toLowerCase())?.[1];
    let body = "";
    if (!withoutBody && status !== 204 && status >= 200) {
      if (header("transfer-encoding") === "chunked") body = await this.#chunks();
      else body = await this.#take(Number(header("content-length") ?? "0"));
    }
    return { status, statusLine, headers, header, body, raw: head + body, json: () => JSON.parse(body) };
  }

  /** True once the server has closed the connection; waits for it. */
  async ended(): Promise<boolean> {
    return this.#buffer.length === 0 && !(await this.#more());
  }

  async #chunks(): Promise<string> {
    let body = "";
    for (;;) {
      const size = parseInt(await this.#take(await this.#find("\r\n")), 16);
      body += (await this.#take(size + 2)).slice(0, -2);
      if (size === 0) return body;
    }
  }

  async #more(): Promise<boolean> {
    const chunk = new Uint8Array(65536);
    const count = await this.connection.read(chunk);
    if (count === null) return false;
    const joined = new Uint8Array(this.#buffer.length + count);
    joined.set(this.#buffer);
    joined.set(chunk.subarray(0, count), this.#buffer.length);
    this.#buffer = joined;
    return true;
  }

  /** Offset behind the next occurrence of `text`. */
  async #find(text: string): Promise<number> {
    for (;;) {
      const at = new TextDecoder("latin1").decode(this.#buffer).indexOf(text);
      if (at >= 0) return at + text.length;
      if (!(await this.#more())) throw new Error("Connection closed in the middle of a response");
    }
  }

  async #take(lengthBytes: number): Promise<string> {
    while (this.#buffer.length < lengthBytes) {
      if (!(await this.#more())) throw new Error("Connection closed in the middle of a response");
    }
    const taken = new TextDecoder().decode(this.#buffer.subarray(0, lengthBytes));
    this.#buffer = this.#buffer.slice(lengthBytes);
    return taken;
  }

  [Symbol.dispose](): void {
    this.connection.close();
  }
}

/** The bytes of a request as curl would send it. */
export function encodeRequest(
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Uint8Array {
  const content = body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body);
  const all: Record<string, string> = { Host: "localhost", Accept: "*/*", ...headers };
  if (content !== undefined) {
    all["Content-Type"] ??= "application/json";
    all["Content-Length"] ??= String(new TextEncoder().encode(content).length);
  }
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return new TextEncoder().encode(`${method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n${content ?? ""}`);
}

/** The REST API of one program: a new connection for each request, as curl does it. */
export class ApiClient {
  constructor(readonly socketPath: string) {}

  /** @param endpoint such as `vm.info`, or a path that begins with a slash */
  async request(method: string, endpoint: string, body?: unknown): Promise<HttpResponse> {
    using connection = await HttpConnection.open(this.socketPath);
    const path = endpoint.startsWith("/") ? endpoint : `/api/v1/${endpoint}`;
    return await connection.request(method, path, body, { Connection: "close" });
  }

  get(endpoint: string): Promise<HttpResponse> {
    return this.request("GET", endpoint);
  }

  put(endpoint: string, body?: unknown): Promise<HttpResponse> {
    return this.request("PUT", endpoint, body);
  }

  /** As `put`, but anything other than success is an error. */
  async mustPut(endpoint: string, body?: unknown): Promise<HttpResponse> {
    const response = await this.put(endpoint, body);
    if (response.status >= 300) {
      throw new Error(`${endpoint} answered ${response.statusLine}: ${response.body}`);
    }
    return response;
  }

  /** `vm.info`; any other status than 200 is an error. */
  // deno-lint-ignore no-explicit-any
  async info(): Promise<any> {
    const response = await this.get("vm.info");
    if (response.status !== 200) throw new Error(`vm.info answered ${response.statusLine}: ${response.body}`);
    return response.json();
  }

  /** The VM's state; undefined while there is none: a VM of the command line is made after the API answers. */
  async state(): Promise<string | undefined> {
    const response = await this.get("vm.info");
    return response.status === 200 ? response.json<{ state: string }>().state : undefined;
  }
}

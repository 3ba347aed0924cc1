/**
 * A small keep-alive HTTP client over a UNIX socket, the same for both programs under test.
 *
 * It reads `Content-Length` in any case and tolerates a status line without reason phrase.
 */

/** One kept-alive connection. */
export class ApiConnection {
  #buffer = new Uint8Array(65536);

  private constructor(private readonly connection: Deno.UnixConn) {}

  /** Connects. @throws when nobody listens */
  static async open(path: string): Promise<ApiConnection> {
    return new ApiConnection(await Deno.connect({ transport: "unix", path }));
  }

  /** Sends a request and reads the whole answer. */
  async request(method: string, endpoint: string, body?: string): Promise<{ status: number; body: string }> {
    const head = `${method} /api/v1/${endpoint} HTTP/1.1\r\nHost: localhost\r\n` +
      (body === undefined ? "" : `Content-Length: ${new TextEncoder().encode(body).length}\r\n`) + "\r\n";
    await this.connection.write(new TextEncoder().encode(head + (body ?? "")));
    let text = "";
    for (;;) {
      const count = await this.connection.read(this.#buffer);
      if (count === null) throw new Error(`Connection closed after "${text}"`);
      text += new TextDecoder().decode(this.#buffer.subarray(0, count));
      const end = text.indexOf("\r\n\r\n");
      if (end < 0) continue;
      const length = Number(/content-length: *(\d+)/i.exec(text.slice(0, end))?.[1] ?? 0);
      const rest = text.slice(end + 4);
      if (new TextEncoder().encode(rest).length < length) continue;
      return { status: Number(text.slice(9, 12)), body: rest };
    }
  }

  close(): void {
    this.connection.close();
  }
}

/** Middle of a sorted copy. */
export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

/** The value below which a share `p` of them lies. */
export function percentile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))];
}

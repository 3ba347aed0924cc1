/**
 * The original, started for comparison: a process and one kept-alive connection to its API.
 *
 * Tests only. `REFERENCE_VMM` names the program; without it the tests that need it are skipped and say so.
 */

import { scaled } from "@tests/framework/deadline.ts";

/** Path of the original, or undefined. */
export const REFERENCE_VMM = Deno.env.get("REFERENCE_VMM");

/** What came back. */
export interface Reply {
  readonly status: number;
  readonly body: string;
}

const START_TRIES = scaled(12_000);
const START_PAUSE_MS = 10;

/** One running original. Dispose of it to end the process and remove its socket. */
export class ReferenceVmm implements AsyncDisposable {
  private constructor(
    private readonly process: Deno.ChildProcess,
    private readonly directory: string,
    private connection: Deno.UnixConn,
  ) {}

  /** Starts the original in a directory of its own and waits until it listens. */
  static async start(): Promise<ReferenceVmm> {
    const directory = await Deno.makeTempDir({ prefix: "reference-" });
    const socket = `${directory}/api.sock`;
    const process = new Deno.Command(REFERENCE_VMM!, {
      args: ["--api-socket", socket],
      cwd: directory,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    for (let tries = 0;; tries++) {
      try {
        return new ReferenceVmm(process, directory, await Deno.connect({ transport: "unix", path: socket }));
      } catch (error) {
        if (tries === START_TRIES) throw error;
        await new Promise((resolve) => setTimeout(resolve, START_PAUSE_MS));
      }
    }
  }

  /** Sends one request and reads its answer. Throws when the original goes away. */
  async request(method: string, endpoint: string, body?: Uint8Array | string): Promise<Reply> {
    const payload = typeof body === "string" ? new TextEncoder().encode(body) : body ?? new Uint8Array(0);
    const head = `${method} /api/v1/${endpoint} HTTP/1.1\r\nHost: localhost\r\n` +
      (body === undefined ? "" : `Content-Length: ${payload.length}\r\n`) + "\r\n";
    const bytes = new Uint8Array(head.length + payload.length);
    new TextEncoder().encodeInto(head, bytes);
    bytes.set(payload, head.length);
    for (let sent = 0; sent < bytes.length;) sent += await this.connection.write(bytes.subarray(sent));
    return await this.reply();
  }

  private async reply(): Promise<Reply> {
    let received = new Uint8Array(0);
    let text = "";
    const chunk = new Uint8Array(1 << 16);
    for (;;) {
      const end = text.indexOf("\r\n\r\n");
      if (end >= 0) {
        const length = Number(/Content-Length: (\d+)/.exec(text.slice(0, end))?.[1] ?? 0);
        if (received.length >= end + 4 + length) {
          const body = new TextDecoder().decode(received.subarray(end + 4, end + 4 + length));
          return { status: Number(text.split(" ")[1]), body };
        }
      }
      const count = await this.connection.read(chunk);
      if (count === null) throw new Error("The original closed the connection");
      const grown = new Uint8Array(received.length + count);
      grown.set(received);
      grown.set(chunk.subarray(0, count), received.length);
      received = grown;
      // Headers are ASCII: one byte is one character up to the blank line.
      text = new TextDecoder("latin1").decode(received);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.connection.close();
    try {
      this.process.kill("SIGKILL");
    } catch {
      // It is gone already.
    }
    await this.process.status;
    await Deno.remove(this.directory, { recursive: true });
  }
}

/**
 * Calls of the remote client, ours and the original's, against a server that records requests.
 *
 * Tests only. `REFERENCE_REMOTE` names the original's client; without it the one beside `REFERENCE_VMM` is taken.
 */
import { dirname, join } from "node:path";
import { runRemote } from "@vmm/remote/run_remote.ts";
import { REFERENCE_VMM } from "./reference_vmm.ts";

/** The original's client, or undefined. */
export const REFERENCE_REMOTE = Deno.env.get("REFERENCE_REMOTE") ??
  (REFERENCE_VMM && join(dirname(REFERENCE_VMM), "ch-remote"));

/** What a call did. */
export interface CallResult {
  readonly code: number;
  readonly stdout: string;
  /** Without the original's debug lines, which have no counterpart. */
  readonly stderr: string;
}

const FATAL = /^\[[^\]]* ERROR cloud_hypervisor\] Fatal error: .*\n/gm;
const LOG_TIME = /^\[[^ ]*Z /gm;

const comparable = (stderr: string) => stderr.replaceAll(FATAL, "").replaceAll(LOG_TIME, "[");

/** Runs the original's client. */
export async function callReference(args: readonly string[], stdin = ""): Promise<CallResult> {
  const process = new Deno.Command(REFERENCE_REMOTE!, {
    args: [...args],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
    env: { RUST_BACKTRACE: "0" },
  }).spawn();
  const writer = process.stdin.getWriter();
  await writer.write(new TextEncoder().encode(stdin)).catch(() => {});
  await writer.close().catch(() => {});
  const { code, stdout, stderr } = await process.output();
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: decode(stdout), stderr: comparable(decode(stderr)) };
}

/** Runs ours, in this process. */
export async function callOurs(args: readonly string[], stdin = ""): Promise<CallResult> {
  let [stdout, stderr] = ["", ""];
  const code = await runRemote(args, "ch-remote", {
    out: (text) => stdout += text,
    err: (text) => stderr += text,
    readInput: () => new TextEncoder().encode(stdin),
    now: () => new Date(),
  });
  return { code, stdout, stderr: comparable(stderr) };
}

/** A server that records one request per connection and answers with `response`. */
export class RecordingServer implements AsyncDisposable {
  response = "HTTP/1.1 204 \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n\r\n";
  #last: string | undefined;
  #open = 0;
  readonly #listener: Deno.UnixListener;
  readonly #directory: string;
  readonly socket: string;

  constructor() {
    this.#directory = Deno.makeTempDirSync({ prefix: "recording-" });
    this.socket = join(this.#directory, "api.sock");
    this.#listener = Deno.listen({ transport: "unix", path: this.socket });
    this.#serve();
  }

  /** The last request, all bytes as text; undefined when there was none. Forgets it. */
  take(): string | undefined {
    const last = this.#last;
    this.#last = undefined;
    return last;
  }

  async #serve(): Promise<void> {
    for await (const connection of this.#listener) {
      this.#open++;
      this.#record(connection).catch(() => {}).finally(() => {
        this.#open--;
        connection.close();
      });
    }
  }

  async #record(connection: Deno.Conn): Promise<void> {
    let text = "";
    const chunk = new Uint8Array(1 << 16);
    for (;;) {
      const count = await connection.read(chunk);
      if (count === null) return;
      text += new TextDecoder("latin1").decode(chunk.subarray(0, count));
      const end = text.indexOf("\r\n\r\n");
      if (end < 0) continue;
      const length = Number(/Content-Length: (\d+)/.exec(text)?.[1] ?? 0);
      if (text.length - end - 4 < length) continue;
      this.#last = text;
      await connection.write(new TextEncoder().encode(this.response));
      return;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    while (this.#open > 0) await new Promise((resolve) => setTimeout(resolve, 1));
    await Deno.remove(this.#directory, { recursive: true });
  }
}

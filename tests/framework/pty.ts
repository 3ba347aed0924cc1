/**
 * The user's side of a serial or virtio console that is a pseudo-terminal.
 *
 * Test framework. A `cat` process reads the terminal, so that nothing in the test blocks when the other side is gone.
 *
 * @module
 */

import { Capture } from "./capture.ts";

/** An open terminal such as `/dev/pts/3`. Modes are left as the VMM set them. */
export class Pty implements AsyncDisposable {
  readonly output: Capture;
  #end = 0;

  private constructor(readonly path: string, readonly reader: Deno.ChildProcess, readonly file: Deno.FsFile) {
    this.output = new Capture(path, reader.stdout);
  }

  static async open(path: string): Promise<Pty> {
    const file = await Deno.open(path, { write: true });
    const reader = new Deno.Command("sh", {
      args: ["-c", 'exec cat <"$1"', "sh", path],
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    return new Pty(path, reader, file);
  }

  /** Types text. */
  async send(text: string): Promise<void> {
    const bytes = new TextEncoder().encode(text);
    for (let done = 0; done < bytes.length;) done += await this.file.write(bytes.subarray(done));
  }

  /** Waits for text that has come since the last `expect`; returns what came up to its end. */
  async expect(pattern: string | RegExp, timeoutMs?: number): Promise<string> {
    const { text, end } = await this.output.waitFor(pattern, { from: this.#end, timeoutMs });
    this.#end = end;
    return text;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.file.close();
    try {
      this.reader.kill("SIGKILL");
    } catch {
      // It ended with the terminal.
    }
    await this.reader.status;
    await this.output.done;
  }
}

/**
 * A running VMM process, ours or the original: start, talk to, look at from outside, stop.
 *
 * Test framework. `await using vm = await Vm.start({ args })`; everything it makes lies in `vm.directory`, which is
 * removed with the process at the end of the scope.
 *
 * @module
 */

import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { Capture } from "./capture.ts";
import { eventually, HOST_TIMEOUT_MS } from "./deadline.ts";
import { EventReader } from "./event_reader.ts";
import { ApiClient } from "./http_client.ts";
import { type ProgramName, programPath } from "./programs.ts";

/** Ten milliseconds and more apart: together more than the two seconds for which Workers wait for the next VM. */
const POLLS_AT_REST = 300;

/** How to start a VMM. */
export interface VmOptions {
  /** Which program; default `nephos`. */
  program?: ProgramName;
  /** The file to start as that program; default: as `programs.ts` says. */
  path?: string;
  /** Its arguments, after those made from the options below. `{dir}` stands for the VM's directory. */
  args?: string[];
  env?: Record<string, string>;
  /** Passes `--api-socket`; default true. With it, `start` returns when the API answers. */
  api?: boolean;
  /** Passes `--event-monitor path=…`; default false. */
  events?: boolean;
  /** Name of the network namespace to run in; default: the host's. */
  netns?: string;
  /** Keeps standard input open for `write`; default: nothing to read. */
  stdin?: boolean;
  /** For `start` to see the API answer. */
  timeoutMs?: number;
}

/** How the process ended. */
export interface Exit {
  code: number;
  signal: Deno.Signal | null;
}

/** One VMM process. */
export class Vm implements AsyncDisposable {
  readonly stdout: Capture;
  readonly stderr: Capture;
  readonly api: ApiClient;
  readonly events: EventReader;
  /** Settles when the process has ended and all its output has been read. */
  readonly exited: Promise<Exit>;
  #exit: Exit | undefined;
  #stdin: WritableStreamDefaultWriter<Uint8Array> | undefined;

  private constructor(
    readonly directory: string,
    readonly options: VmOptions,
    readonly child: Deno.ChildProcess,
  ) {
    const name = options.program ?? "nephos";
    this.stdout = new Capture(`${name}'s standard output`, child.stdout);
    this.stderr = new Capture(`${name}'s standard error`, child.stderr);
    this.api = new ApiClient(join(directory, "api.sock"));
    this.events = new EventReader(join(directory, "events.json"));
    if (options.stdin) this.#stdin = child.stdin.getWriter();
    this.exited = Promise.all([child.status, this.stdout.done, this.stderr.done]).then(([{ code, signal }]) =>
      this.#exit = { code, signal }
    );
  }

  /**
   * Starts the program and waits until its API answers (unless `api` is false).
   *
   * @throws Error with the program's standard error if it ends before, DeadlineError if it takes too long
   */
  static async start(options: VmOptions = {}): Promise<Vm> {
    const program = options.path ?? programPath(options.program ?? "nephos");
    if (!program) throw new Error(`No path known for the program "${options.program}"`);
    const directory = await Deno.makeTempDir({ prefix: "nephos-vm-" });
    const args = (options.args ?? []).map((argument) => argument.replaceAll("{dir}", directory));
    if (options.events) args.unshift("--event-monitor", `path=${join(directory, "events.json")}`);
    if (options.api !== false) args.unshift("--api-socket", join(directory, "api.sock"));
    const command = options.netns ? ["ip", "netns", "exec", options.netns, program] : [program];
    const child = new Deno.Command(command[0], {
      args: [...command.slice(1), ...args],
      env: options.env,
      stdin: options.stdin ? "piped" : "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const vm = new Vm(directory, options, child);
    if (options.api !== false) {
      try {
        await vm.waitForApi(options.timeoutMs);
      } catch (error) {
        await vm[Symbol.asyncDispose]();
        throw error;
      }
    }
    return vm;
  }

  get pid(): number {
    return this.child.pid;
  }

  /** How the process ended, or undefined while it runs. */
  get exit(): Exit | undefined {
    return this.#exit;
  }

  /** Waits until `vmm.ping` is answered. */
  async waitForApi(timeoutMs: number = HOST_TIMEOUT_MS): Promise<void> {
    await eventually("an answer to vmm.ping", async () => {
      if (this.#exit) throw new Error(`Ended with ${describe(this.#exit)}: ${this.stderr.text}`);
      try {
        return (await this.api.get("vmm.ping")).status === 200;
      } catch {
        return false;
      }
    }, timeoutMs);
  }

  /** Writes to the program's standard input; needs `stdin: true`. */
  async write(text: string): Promise<void> {
    if (!this.#stdin) throw new Error(`Start the VM with "stdin: true" to write to it`);
    await this.#stdin.write(new TextEncoder().encode(text));
  }

  /** Waits for the process to end by itself. */
  async waitForExit(timeoutMs: number = HOST_TIMEOUT_MS): Promise<Exit> {
    return await eventually(
      () => `the end of the process; standard error: ${this.stderr.text.slice(-2000)}`,
      () => this.#exit,
      timeoutMs,
    );
  }

  /** Sends a signal, if the process still runs. */
  kill(signal: Deno.Signal): void {
    if (!this.#exit) this.child.kill(signal);
  }

  /** Asks the process to end (SIGTERM), and makes it if it does not. */
  async stop(timeoutMs: number = HOST_TIMEOUT_MS): Promise<Exit> {
    this.kill("SIGTERM");
    try {
      return await this.waitForExit(timeoutMs);
    } catch {
      this.kill("SIGKILL");
      return await this.exited;
    }
  }

  /** The numbers of the open descriptors, with what they point at. */
  async descriptors(): Promise<Map<number, string>> {
    const found = new Map<number, string>();
    for await (const { name } of Deno.readDir(`/proc/${this.pid}/fd`)) {
      const target = await Deno.readLink(`/proc/${this.pid}/fd/${name}`).catch(() => undefined);
      if (target !== undefined) found.set(Number(name), target);
    }
    return found;
  }

  /**
   * As `descriptors`, once none has come or gone for some seconds: after its first boot a program talks to itself for a
   * while, and after any it keeps Workers which the next VM may want.
   */
  async descriptorsAtRest(): Promise<Map<number, string>> {
    let last = await this.descriptors();
    let unchanged = 0;
    await eventually("the descriptors to stay the same", async () => {
      const now = await this.descriptors();
      unchanged = isDeepStrictEqual(now, last) ? unchanged + 1 : 0;
      last = now;
      return unchanged === POLLS_AT_REST;
    });
    return last;
  }

  /** Names of the threads, sorted. */
  async threads(): Promise<string[]> {
    const names: string[] = [];
    for await (const { name } of Deno.readDir(`/proc/${this.pid}/task`)) {
      const text = await Deno.readTextFile(`/proc/${this.pid}/task/${name}/comm`).catch(() => undefined);
      if (text !== undefined) names.push(text.trim());
    }
    return names.sort();
  }

  /** A number of KiB from `/proc/PID/smaps_rollup`, such as Pss, Rss, Private_Dirty. */
  async memoryKib(field: string): Promise<number> {
    const text = await Deno.readTextFile(`/proc/${this.pid}/smaps_rollup`);
    const value = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(text)?.[1];
    if (value === undefined) throw new Error(`No field "${field}" in smaps_rollup`);
    return Number(value);
  }

  /** User and system time used so far, in clock ticks (100 a second). */
  async cpuTicks(): Promise<number> {
    const text = await Deno.readTextFile(`/proc/${this.pid}/stat`);
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return Number(fields[11]) + Number(fields[12]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stdin?.close().catch(() => {});
    if (!this.#exit) await this.stop();
    await this.exited;
    await Deno.remove(this.directory, { recursive: true });
  }
}

function describe({ code, signal }: Exit): string {
  return signal ? `signal ${signal}` : `code ${code}`;
}
